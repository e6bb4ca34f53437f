"""The annotator: texts in, entities with character offsets, types and scores out."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from compactbio.annotate.given import listed, whole
from compactbio.annotate.opening import Opened, opened, parted
from compactbio.deploy.onnx_runtime import batches
from compactbio.deploy.runtimes import Runtime
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.tasks import ner_rows
from compactbio.tasks.rows import Row


@dataclass(frozen=True, slots=True)
class Entity:
    """A mention: `text` is the annotated text's characters from `start` to `end`, of `type` ("" where the model names
    none). `score`, in (0, 1], is the mean over the mention's words of the probability that the model gives to the
    word being part of a mention of this type."""

    start: int
    end: int
    text: str
    type: str
    score: float


@dataclass(frozen=True)
class Tagger:
    """One NER model; `unnamed` is the type of its bare labels."""

    model: Opened
    unnamed: str = ""

    @property
    def types(self) -> list[str]:
        """The types that it finds."""
        return sorted({label.partition("-")[2] or self.unnamed for label in self.model.labels if label[0] != "O"})

    def mentions(
        self, documents: Sequence[Document], tokens: int | None
    ) -> Generator[None, None, list[tuple[int, Span, float]]]:
        """Each mention with its document's place and its score; see `Annotator.steps`."""
        model = self.model
        encoded = ner_rows.encode(documents, model.tokenizer, {}, model.max_length)
        logits = yield from _logits(model.runtime, encoded.rows, tokens)
        found = ner_rows.mentions(encoded, logits, model.labels)
        return [(place, Span(s.start, s.end, s.type or self.unnamed), score) for place, s, score in found]


class Annotator:
    """Finds entities in texts of any length with one or more fine-tuned NER models.

    A text is cut into sentences and words as documents are when a model is fine-tuned; a sentence that is longer than
    a model is covered by overlapping windows, each word decided where it stands most central; nothing is cut. Where
    entities overlap, which only those of several models do, the one with the higher score is kept, then the longer
    one, then that of the model named first.
    """

    def __init__(self, taggers: Sequence[Tagger]) -> None:
        self.taggers = tuple(taggers)

    @classmethod
    def from_pretrained(cls, *names: str | Path, runtime: str = "auto", threads: int | None = None) -> Self:
        """Load models by local folder or hub name; "TYPE=NAME" gives the mentions of a model without types one.

        `runtime` is one of `deploy.runtimes.NAMES`; "auto": what the folder was exported for, else PyTorch in fp32; or
        "fastest": the fastest on this machine by a short measurement, which is kept. Raises UserError for what is not
        a NER model, has no labels, or cannot be read.
        """
        if not names:
            raise UserError("Name at least one model to annotate with.")
        return cls([_tagger(str(name), runtime, threads) for name in names])

    def __call__(self, texts: Iterable[str | Document], *, min_score: float = 0.0) -> list[list[Entity]]:
        """The entities of each text, in the order of their starts, with scores of at least `min_score`.

        `texts` may be any iterable, and is read once; several threads may call at the same time. Raises UserError
        where an element is neither a str nor a Document.
        """
        work = self.steps(texts, min_score=min_score)
        try:
            while True:
                next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]

    def steps(
        self, texts: Iterable[str | Document], *, min_score: float = 0.0, tokens: int | None = None
    ) -> Generator[None, None, list[list[Entity]]]:
        """What a call does, in steps of at most `tokens` tokens of a model, so that long work can be left or shared.

        Yields after each step, and returns what a call returns. Without `tokens` a model has all at once.
        """
        given = listed(texts, (str, Document), "text")
        documents = [_document(text) for text in given]
        found: list[list[tuple[float, int, Span]]] = [[] for _ in documents]
        for tagger in self.taggers:
            for place, span, score in (yield from tagger.mentions(documents, tokens)):
                if score >= min_score:
                    found[place].append((score, len(found[place]), span))
        own = [text.text if isinstance(text, Document) else text for text in given]
        return [
            [
                Entity(span.start, span.end, text[span.start : span.end], span.type, score)
                for span, score in _apart(all_)
            ]
            for text, all_ in zip(own, found, strict=True)
        ]


def _logits(
    runtime: Runtime, rows: Sequence[Row], tokens: int | None
) -> Generator[None, None, list[NDArray[np.float32]]]:
    if tokens is None:
        return runtime.logits(rows)
    found: list[NDArray[np.float32]] = [np.empty(0, dtype=np.float32)] * len(rows)
    for places in batches([len(row) for row in rows], tokens):
        for place, own in zip(places, runtime.logits([rows[place] for place in places]), strict=True):
            found[place] = own
        yield
    return found


def _tagger(name: str, runtime: str, threads: int | None) -> Tagger:
    unnamed, model = parted(name)
    return Tagger(opened(model, "ner", runtime, threads), unnamed)


def _document(text: str | Document) -> Document:
    document = text if isinstance(text, Document) else Document("", text)
    return Document(document.id, whole(document.text), tokenised=document.tokenised)


def _apart(found: Sequence[tuple[float, int, Span]]) -> list[tuple[Span, float]]:
    """What is kept of (score, place in the order of models, mention), by start."""
    taken = bytearray(max((span.end for _, _, span in found), default=0))  # (characters,): 1 where a kept mention is
    kept: list[tuple[Span, float]] = []
    for score, _, span in sorted(found, key=lambda one: (-one[0], one[2].start - one[2].end, one[1])):
        if taken.find(1, span.start, span.end) < 0:
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append((span, score))
    return sorted(kept, key=lambda one: one[0].start)
