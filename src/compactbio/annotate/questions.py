"""Answers to questions from texts that may hold them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, overload

from compactbio.annotate.inputs import batched, check_type, elements_of
from compactbio.annotate.models import LoadedModel, load_model
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


class QuestionAnnotator:
    """Answers questions with spans of the texts that come with them, by a fine-tuned question answering model.

    A text that is longer than a row is covered by overlapping windows. Answers are merged over the texts of a question
    as `tasks.qa.merge` does; at most five are given, the most probable first.

    Example:
        >>> from compactbio import QuestionAnnotator
        >>> annotator = QuestionAnnotator.from_pretrained("reader")
        >>> answers = annotator(("drug of the group", ["the dose of daily aspirin in the study"]))
        >>> answers[0].text
        'aspirin'
    """

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        runtime: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        tokens_per_batch: int | None = None,
    ) -> Self:
        """Load a question answering model by local folder or hub name.

        The other arguments, and what is raised, are those of `Annotator.from_pretrained`.
        """
        return cls(
            load_model(name, "qa", runtime=runtime, device=device, threads=threads, tokens_per_batch=tokens_per_batch)
        )

    @overload
    def __call__(self, asked: Asked) -> list[Answer]: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, asked: Iterable[Asked]) -> list[list[Answer]]: ...
    def __call__(self, asked: Asked | Iterable[Asked]) -> list[Answer] | list[list[Answer]]:
        """The answers to a question, or to each of several.

        Args:
            asked: A pair (question, texts), or any iterable of such pairs, which is read once.

        Raises:
            UserError: Where an element is not such a pair.
        """
        if isinstance(asked, tuple) and len(asked) == 2 and isinstance(asked[0], str):
            return self._answers([asked])[0]
        return self._answers(list(elements_of(asked, (tuple, list), "pair")))

    def stream(self, asked: Iterable[Asked], *, batch_size: int = 128) -> Iterator[list[Answer]]:
        """The answers to each (question, texts) as they are ready; `batch_size` questions are computed together."""
        given = batched(elements_of(asked, (tuple, list), "pair"), batch_size)
        return (found for batch in given for found in self._answers(batch))

    def _answers(self, asked: Sequence[Any]) -> list[list[Answer]]:
        pairs = [_pair(one, place) for place, one in enumerate(asked)]
        documents = [
            Document(f"{place}", text, questions=(Question(question, (), id=str(place)),))
            for place, (question, texts) in enumerate(pairs)
            for text in texts
        ]
        model = self._model
        encoded = qa.encode(documents, model.tokenizer, model.max_length, model.stride)
        found = qa.decode(encoded, model.logits(encoded.rows), documents)
        return [[Answer(text, score) for text, score in found.get(str(place), [])] for place in range(len(pairs))]


def _pair(one: Sequence[Any], place: int) -> tuple[str, list[str]]:
    if len(one) != 2:
        raise UserError(f"Pair {place} (counted from 0) has {len(one)} elements; give (question, texts).")
    check_type(one[0], str, f"The question of pair {place} (counted from 0)")
    return without_surrogates(one[0]), [without_surrogates(text) for text in elements_of(one[1], str, "text")]
