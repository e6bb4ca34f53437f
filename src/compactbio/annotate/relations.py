"""Relations between mentions of a document: pairs of a sentence, marked as the model was trained, and classed."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from compactbio.annotate.annotator import Opened, listed, opened
from compactbio.documents import Document, Relation, Span
from compactbio.documents.words import sentences, without_surrogates
from compactbio.errors import UserError
from compactbio.tasks import relation


@dataclass(frozen=True, slots=True)
class Marking:
    """Which pairs a model was trained on, and how they were marked.

    `head` and `tail` are the types of the mentions. `marks` are what stands in their place, in that order: a word
    ("@GENE$"), or a frame with {} for the mention's own text ("<< {} >>").
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
    """Finds relations between the mentions of documents, within a sentence, with a fine-tuned relation model."""

    def __init__(self, model: Opened, marking: Marking) -> None:
        assert model.scheme is not None
        self._model, self._scheme, self._marking = model, model.scheme, marking

    @classmethod
    def from_pretrained(
        cls, name: str | Path, marking: Marking, *, runtime: str = "auto", threads: int | None = None
    ) -> Self:
        """Load a model by local folder or hub name; `runtime` and errors as of `Annotator.from_pretrained`."""
        if len(set(marking.marks)) < 2 or not all(marking.marks):
            raise UserError("The two marks of a relation model must differ, or nobody can tell head from tail.")
        return cls(opened(str(name), "relation", runtime, threads), marking)

    def __call__(self, documents: Iterable[Document], *, min_score: float = 0.0) -> list[list[Related]]:
        """The relations of each document, pairs of the negative class left out, in the order of the pairs.

        `documents` may be any iterable, and is read once. Raises UserError where an element is not a Document.
        """
        documents = [replace(one, text=without_surrogates(one.text)) for one in listed(documents, Document, "document")]
        pairs = [(place, *pair) for place, document in enumerate(documents) for pair in _pairs(document, self._marking)]
        found: list[list[Related]] = [[] for _ in documents]
        if not pairs:
            return found
        # A row needs some class; the model does not see it.
        some, model = self._model.labels[0], self._model
        marked = [_marked(documents[place], part, head, tail, self._marking, some) for place, part, head, tail in pairs]
        rows = relation.encode(marked, model.tokenizer, {}, self._scheme, model.max_length).rows
        logits = np.stack(model.runtime.logits(rows))  # (pairs, outputs)
        shares = relation.probabilities(logits, independent=model.independent)  # (pairs, classes)
        for (place, _, head, tail), own in zip(pairs, shares, strict=True):
            held = np.flatnonzero(own >= 0.5) if model.independent else [own.argmax()]
            found[place] += [
                Related(head, tail, model.labels[one], float(own[one]))
                for one in held
                if model.labels[one] not in self._scheme.negatives and own[one] >= min_score
            ]
        return found


def _pairs(document: Document, marking: Marking) -> Iterator[tuple[tuple[int, int], int, int]]:
    """Each (start and end of the sentence, head, tail) of a head and a tail that share a sentence and no character."""
    parts = [(0, len(document.text))] if document.tokenised else sentences(document.text)
    by_start = sorted(range(len(document.spans)), key=lambda i: document.spans[i].start)
    starts = [document.spans[i].start for i in by_start]
    for part in parts:
        near = by_start[bisect_left(starts, part[0]) : bisect_right(starts, part[1])]
        inside = sorted(i for i in near if document.spans[i].end <= part[1])
        for head in (i for i in inside if document.spans[i].type == marking.head):
            for tail in (i for i in inside if document.spans[i].type == marking.tail):
                one, other = document.spans[head], document.spans[tail]
                if one.end <= other.start or other.end <= one.start:
                    yield part, head, tail


def _marked(document: Document, part: tuple[int, int], head: int, tail: int, marking: Marking, kind: str) -> Document:
    """The sentence with both mentions marked, as a document of one relation; where the marks stand goes with it."""
    ends = sorted(
        ((document.spans[head], marking.marks[0]), (document.spans[tail], marking.marks[1])),
        key=lambda one: one[0].start,
    )
    pieces, spans, at, size = [], [], part[0], 0
    for span, mark in ends:
        before = document.text[at : span.start]
        shown = mark.replace("{}", document.text[span.start : span.end])
        spans.append(Span(size + len(before), size + len(before) + len(shown), span.type))
        pieces += [before, shown]
        size, at = size + len(before) + len(shown), span.end
    text = "".join([*pieces, document.text[at : part[1]]])
    return Document(document.id, text, tuple(spans), (Relation(0, 1, kind),))
