"""Relations between mentions of a document: pairs within a sentence, marked as in training, and classified."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, Unpack

import numpy as np

from compactbio.annotate.models import InputAnnotator, LoadedModel, LoadOptions, load_model
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


class RelationAnnotator(InputAnnotator[Document, Related]):
    """Finds relations between the mentions of documents, within a sentence, with a fine-tuned relation model.

    An input is a Document with its mentions. Relations are in the order of the pairs; those of the negative class are
    left out.

    Examples:
        >>> from compactbio import Document, RelationAnnotator, Span
        >>> from compactbio.annotate import Marking
        >>> marking = Marking("Gene", "Disease", ("@GENE$", "@DISEASE$"))
        >>> annotator = RelationAnnotator.from_pretrained("relations", marking)
        >>> spans = (Span(0, 4, "Gene"), Span(21, 27, "Disease"))
        >>> [found] = annotator(Document("1", "risk associated with cancer", spans))
        >>> found.head, found.tail, found.type
        (0, 1, '1')
    """

    _types, _noun = (Document,), "document"

    def __init__(self, model: LoadedModel, marking: Marking) -> None:
        assert model.scheme is not None
        self._model, self._scheme, self._marking = model, model.scheme, marking

    @classmethod
    def from_pretrained(cls, name: str | Path, marking: Marking, **options: Unpack[LoadOptions]) -> Self:
        """Load a relation model that was trained on the pairs of `marking`.

        `options`, and what is raised, as for `Annotator.from_pretrained`.
        """
        if len(set(marking.marks)) < 2 or not all(marking.marks):
            raise UserError("The two marks of a relation model must differ, and neither may be empty: give two marks.")
        model = load_model(name, "relation", **options)
        model.warn()
        return cls(model, marking)

    def _find(self, inputs: list[Document], min_score: float) -> list[list[Related]]:
        documents = [replace(one, text=without_surrogates(one.text)) for one in inputs]
        pairs = [(place, *pair) for place, document in enumerate(documents) for pair in _pairs(document, self._marking)]
        found: list[list[Related]] = [[] for _ in documents]
        if not pairs:
            return found
        model = self._model
        # A row needs some class; the model does not see it.
        marked = [
            marked_sentence(documents[place], sentence, pair, self._marking.marks, model.labels[0])
            for place, sentence, pair in pairs
        ]
        rows = relation.encode(marked, model.tokenizer, {}, self._scheme, model.max_length).rows
        logits = np.stack(model.logits(rows))  # (pairs, outputs)
        reported = relation.reported(logits, model.labels, self._scheme, independent=model.independent)
        scores = relation.probabilities(logits / model.scoring.temperature, independent=model.independent)
        for pair, one in np.argwhere(reported).tolist():  # both (pairs, classes)
            place, _, mentions = pairs[pair]
            score = float(scores[pair, one])
            if score >= max(min_score, model.scoring.lowest(model.labels[one])):
                found[place].append(Related(*mentions, model.labels[one], score))
        return found


def _pairs(document: Document, marking: Marking) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Each sentence (start, end) and pair (head, tail) of mentions that share it and no character."""
    by_start = sorted(range(len(document.spans)), key=lambda i: document.spans[i].start)
    starts = [document.spans[i].start for i in by_start]
    for start, end in [(0, len(document.text))] if document.tokenised else sentences(document.text):
        near = by_start[bisect_left(starts, start) : bisect_right(starts, end)]
        inside = sorted(i for i in near if document.spans[i].end <= end)
        for head in (i for i in inside if document.spans[i].type == marking.head):
            for tail in (i for i in inside if document.spans[i].type == marking.tail):
                first, second = document.spans[head], document.spans[tail]
                if first.end <= second.start or second.end <= first.start:
                    yield (start, end), (head, tail)


def marked_sentence(
    document: Document, sentence: tuple[int, int], pair: tuple[int, int], marks: tuple[str, str], label: str
) -> Document:
    """The sentence with both mentions of a pair marked, as a document of one relation; its spans are the marks."""
    text, spans, at = "", [], sentence[0]
    mentions = [document.spans[one] for one in pair]
    for span, mark in sorted(zip(mentions, marks, strict=True), key=lambda one: one[0].start):
        text += document.text[at : span.start]
        start = len(text)
        text += mark.replace("{}", document.text[span.start : span.end])
        spans.append(Span(start, len(text), span.type))
        at = span.end
    text += document.text[at : sentence[1]]
    return Document(document.id, text, tuple(spans), (Relation(0, 1, label),))
