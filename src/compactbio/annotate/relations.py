"""Relations between mentions of a document: pairs within a sentence, marked as in training, and classified."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, overload

import numpy as np

from compactbio.annotate.inputs import batched, elements_of
from compactbio.annotate.models import LoadedModel, load_model
from compactbio.documents import Document, Relation, Span
from compactbio.documents.words import sentences, without_surrogates
from compactbio.errors import UserError
from compactbio.tasks import relation


@dataclass(frozen=True, slots=True)
class Marking:
    """Which pairs a relation model was trained on, and how they were marked.

    Attributes:
        head: The type of the first mention ("Gene").
        tail: The type of the second mention ("Disease").
        marks: What replaces the two mentions, in that order: a word ("@GENE$"), or a frame with {} for the mention's
            own text ("<< {} >>").
    """

    head: str
    tail: str
    marks: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Related:
    """A relation: the places of `head` and `tail` in the document's spans, the class, and its probability."""

    head: int
    tail: int
    type: str
    score: float


class RelationAnnotator:
    """Finds relations between the mentions of documents, within a sentence, with a fine-tuned relation model.

    Example:
        >>> from compactbio import Document, RelationAnnotator, Span
        >>> from compactbio.annotate import Marking
        >>> marking = Marking("Gene", "Disease", ("@GENE$", "@DISEASE$"))
        >>> annotator = RelationAnnotator.from_pretrained("relations", marking)
        >>> spans = (Span(0, 4, "Gene"), Span(21, 27, "Disease"))
        >>> [found] = annotator(Document("1", "risk associated with cancer", spans))
        >>> found.head, found.tail, found.type
        (0, 1, '1')
    """

    def __init__(self, model: LoadedModel, marking: Marking) -> None:
        assert model.scheme is not None
        self._model, self._scheme, self._marking = model, model.scheme, marking

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        marking: Marking,
        *,
        runtime: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        tokens_per_batch: int | None = None,
    ) -> Self:
        """Load a relation model by local folder or hub name.

        Args:
            name: A local folder or hub name.
            marking: The pairs that it was trained on, and their marks.

        The other arguments, and what is raised, are those of `Annotator.from_pretrained`.
        """
        if len(set(marking.marks)) < 2 or not all(marking.marks):
            raise UserError("The two marks of a relation model must differ; else head and tail cannot be told apart.")
        loaded = load_model(
            name, "relation", runtime=runtime, device=device, threads=threads, tokens_per_batch=tokens_per_batch
        )
        return cls(loaded, marking)

    @overload
    def __call__(self, documents: Document, *, min_score: float = 0.0) -> list[Related]: ...
    @overload
    def __call__(self, documents: Iterable[Document], *, min_score: float = 0.0) -> list[list[Related]]: ...
    def __call__(
        self, documents: Document | Iterable[Document], *, min_score: float = 0.0
    ) -> list[Related] | list[list[Related]]:
        """The relations of a document, or of each of several, in the order of the pairs.

        Pairs of the negative class are left out.

        Args:
            documents: A Document with its mentions, or any iterable of them, which is read once.
            min_score: The lowest score of a relation, in [0, 1].

        Raises:
            UserError: Where an element is not a Document.
        """
        if isinstance(documents, Document):
            return self._relations([documents], min_score)[0]
        return self._relations(list(elements_of(documents, Document, "document")), min_score)

    def stream(
        self, documents: Iterable[Document], *, min_score: float = 0.0, batch_size: int = 128
    ) -> Iterator[list[Related]]:
        """The relations of each document as they are ready; `batch_size` documents are computed together."""
        given = batched(elements_of(documents, Document, "document"), batch_size)
        return (found for batch in given for found in self._relations(batch, min_score))

    def _relations(self, given: Sequence[Document], min_score: float) -> list[list[Related]]:
        documents = [replace(one, text=without_surrogates(one.text)) for one in given]
        pairs = [(place, *pair) for place, document in enumerate(documents) for pair in _pairs(document, self._marking)]
        found: list[list[Related]] = [[] for _ in documents]
        if not pairs:
            return found
        model = self._model
        # A row needs some class; the model does not see it.
        marked = [
            _marked_sentence(documents[place], sentence, head, tail, self._marking, model.labels[0])
            for place, sentence, head, tail in pairs
        ]
        rows = relation.encode(marked, model.tokenizer, {}, self._scheme, model.max_length).rows
        logits = np.stack(model.logits(rows))  # (pairs, outputs)
        probabilities = relation.probabilities(logits, independent=model.independent)  # (pairs, classes)
        for (place, _, head, tail), row in zip(pairs, probabilities, strict=True):
            classes = np.flatnonzero(row >= 0.5) if model.independent else [row.argmax()]
            found[place] += [
                Related(head, tail, model.labels[one], float(row[one]))
                for one in classes
                if model.labels[one] not in self._scheme.negatives and row[one] >= min_score
            ]
        return found


def _pairs(document: Document, marking: Marking) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Each (start and end of the sentence, head, tail) of a head and a tail that share a sentence and no character."""
    by_start = sorted(range(len(document.spans)), key=lambda i: document.spans[i].start)
    starts = [document.spans[i].start for i in by_start]
    for start, end in [(0, len(document.text))] if document.tokenised else sentences(document.text):
        near = by_start[bisect_left(starts, start) : bisect_right(starts, end)]
        inside = sorted(i for i in near if document.spans[i].end <= end)
        for head in (i for i in inside if document.spans[i].type == marking.head):
            for tail in (i for i in inside if document.spans[i].type == marking.tail):
                first, second = document.spans[head], document.spans[tail]
                if first.end <= second.start or second.end <= first.start:
                    yield (start, end), head, tail


def _marked_sentence(
    document: Document, sentence: tuple[int, int], head: int, tail: int, marking: Marking, label: str
) -> Document:
    """The sentence with both mentions marked, as a document of one relation; its spans are the marks."""
    mentions = sorted(
        ((document.spans[head], marking.marks[0]), (document.spans[tail], marking.marks[1])),
        key=lambda one: one[0].start,
    )
    text, spans, at = "", [], sentence[0]
    for span, mark in mentions:
        text += document.text[at : span.start]
        start = len(text)
        text += mark.replace("{}", document.text[span.start : span.end])
        spans.append(Span(start, len(text), span.type))
        at = span.end
    text += document.text[at : sentence[1]]
    return Document(document.id, text, tuple(spans), (Relation(0, 1, label),))
