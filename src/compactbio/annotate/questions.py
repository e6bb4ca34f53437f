"""Answers to questions from texts that may hold them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from transformers import PreTrainedTokenizerFast

from compactbio.annotate.annotator import check, listed, opened
from compactbio.documents import Document, Question
from compactbio.documents.words import without_surrogates
from compactbio.errors import UserError
from compactbio.modeling.runtimes import Runtime
from compactbio.tasks import qa


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and its probability, summed over the texts that hold it (so it may pass 1)."""

    text: str
    score: float


class QuestionAnnotator:
    """Answers questions with spans of the contexts that come with them, by a fine-tuned question answering model.

    A context that is longer than a row is covered by overlapping windows. Answers are merged over the contexts of a
    question as `tasks.qa.merge` does; at most five are given, the most probable first.
    """

    def __init__(self, runtime: Runtime, tokenizer: PreTrainedTokenizerFast, max_length: int, stride: int) -> None:
        self._runtime, self._tokenizer = runtime, tokenizer
        self._max_length, self._stride = max_length, stride

    @classmethod
    def from_pretrained(cls, name: str | Path, *, runtime: str = "auto", threads: int | None = None) -> Self:
        """Load a model by local folder or hub name; `runtime` and errors as of `Annotator.from_pretrained`."""
        model = opened(str(name), "qa", runtime, threads)
        return cls(model.runtime, model.tokenizer, model.max_length, model.stride)

    def __call__(self, asked: Iterable[tuple[str, Iterable[str]]]) -> list[list[Answer]]:
        """The answers to each (question, contexts). Raises UserError where one is not such a pair."""
        asked = [_pair(one, place) for place, one in enumerate(listed(asked, (tuple, list), "pair"))]
        documents = [
            Document(f"{place}", context, questions=(Question(question, (), id=str(place)),))
            for place, (question, contexts) in enumerate(asked)
            for context in contexts
        ]
        encoded = qa.encode(documents, self._tokenizer, self._max_length, self._stride)
        found = qa.decode(encoded, self._runtime.logits(encoded.rows), documents)
        return [[Answer(text, score) for text, score in found.get(str(place), [])] for place in range(len(asked))]


def _pair(one: Sequence[Any], place: int) -> tuple[str, list[str]]:
    if len(one) != 2:
        raise UserError(f"Pair {place} (counted from 0) has {len(one)} parts; give (question, contexts).")
    check(one[0], str, f"The question of pair {place} (counted from 0)")
    return without_surrogates(one[0]), [without_surrogates(context) for context in listed(one[1], str, "context")]
