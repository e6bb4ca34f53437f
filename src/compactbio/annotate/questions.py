"""Answers to questions from texts that may hold them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, Unpack

from compactbio.annotate.models import InputAnnotator, LoadedModel, LoadOptions, check_type, elements_of, load_model
from compactbio.documents import Document, Question
from compactbio.documents.words import without_surrogates
from compactbio.errors import UserError
from compactbio.tasks import qa

Asked = tuple[str, Iterable[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and its score: its probability, summed over the texts that hold it (so it may exceed 1)."""

    text: str
    score: float


class QuestionAnnotator(InputAnnotator[Asked, Answer]):
    """Answers questions with spans of the texts that come with them, by a fine-tuned question answering model.

    An input is a pair (question, texts). A text that is longer than a row is covered by overlapping windows. Answers
    are merged over the texts of a question as `tasks.qa.merge` does; at most five are given, the most probable first.

    Examples:
        >>> from compactbio import QuestionAnnotator
        >>> annotator = QuestionAnnotator.from_pretrained("reader")
        >>> answers = annotator(("drug of the group", ["the dose of daily aspirin in the study"]))
        >>> answers[0].text
        'aspirin'
    """

    _types, _noun = (tuple, list), "pair"

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Unpack[LoadOptions]) -> Self:
        """Load a question answering model; `options`, and what is raised, as for `Annotator.from_pretrained`."""
        return cls(load_model(name, "qa", **options))

    def _is_one(self, inputs: Any) -> bool:
        return isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[0], str)

    def _find(self, inputs: list[Asked], min_score: float) -> list[list[Answer]]:
        pairs = [_pair(one, place) for place, one in enumerate(inputs)]
        documents = [
            Document(f"{place}", text, questions=(Question(question, (), id=str(place)),))
            for place, (question, texts) in enumerate(pairs)
            for text in texts
        ]
        model = self._model
        encoded = qa.encode(documents, model.tokenizer, model.max_length, model.stride)
        found = qa.decode(encoded, model.logits(encoded.rows), documents)
        return [
            [Answer(text, score) for text, score in found.get(str(place), []) if score >= min_score]
            for place in range(len(pairs))
        ]


def _pair(one: Sequence[Any], place: int) -> tuple[str, list[str]]:
    if len(one) != 2:
        raise UserError(f"Pair {place} (counted from 0) has {len(one)} elements; give (question, texts).")
    check_type(one[0], (str,), f"The question of pair {place} (counted from 0)")
    return without_surrogates(one[0]), [without_surrogates(text) for text in elements_of(one[1], (str,), "text")]
