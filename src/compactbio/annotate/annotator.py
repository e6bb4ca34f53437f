"""The annotator: texts in, entities with character offsets, types and scores out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from compactbio.annotate.opening import Opened, opened, parted
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.tasks import ner_rows

_SURROGATE = re.compile("[\ud800-\udfff]")


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

    def mentions(self, documents: Sequence[Document]) -> list[tuple[int, Span, float]]:
        """Each mention with its document's place and its score."""
        model = self.model
        encoded = ner_rows.encode(documents, model.tokenizer, {}, model.max_length)
        found = ner_rows.mentions(encoded, model.runtime.logits(encoded.rows), model.labels)
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

    def __call__(self, texts: Sequence[str | Document], *, min_score: float = 0.0) -> list[list[Entity]]:
        """The entities of each text, in the order of their starts, with scores of at least `min_score`."""
        if isinstance(texts, str):
            raise UserError("Give a list of texts, not a text alone: annotator([text])[0].")
        documents = [_document(text) for text in texts]
        found: list[list[tuple[float, int, Span]]] = [[] for _ in documents]
        for tagger in self.taggers:
            for place, span, score in tagger.mentions(documents):
                if score >= min_score:
                    found[place].append((score, len(found[place]), span))
        own = [text.text if isinstance(text, Document) else text for text in texts]
        return [
            [
                Entity(span.start, span.end, text[span.start : span.end], span.type, score)
                for span, score in _apart(all_)
            ]
            for text, all_ in zip(own, found, strict=True)
        ]


def _tagger(name: str, runtime: str, threads: int | None) -> Tagger:
    unnamed, model = parted(name)
    return Tagger(opened(model, "ner", runtime, threads), unnamed)


def _document(text: str | Document) -> Document:
    document = text if isinstance(text, Document) else Document("", text)
    # No tokenizer takes half a surrogate pair; what stands for it is one character as well.
    whole = _SURROGATE.sub("\ufffd", document.text)
    return Document(document.id, whole, tokenised=document.tokenised)


def _apart(found: Sequence[tuple[float, int, Span]]) -> list[tuple[Span, float]]:
    """What is kept of (score, place in the order of models, mention), by start."""
    kept: list[tuple[Span, float]] = []
    for score, _, span in sorted(found, key=lambda one: (-one[0], one[2].start - one[2].end, one[1])):
        if all(span.end <= other.start or other.end <= span.start for other, _ in kept):
            kept.append((span, score))
    return sorted(kept, key=lambda one: one[0].start)
