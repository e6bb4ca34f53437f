"""The annotator: texts in, entities with character offsets, types and scores out."""

import logging
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compactbio.documents import Document, Span
from compactbio.documents.words import without_surrogates
from compactbio.errors import UserError
from compactbio.evaluation import scoring
from compactbio.modeling import loading, runtimes
from compactbio.modeling.onnx import batches
from compactbio.modeling.packing import Row
from compactbio.modeling.runtimes import Portable, Runtime
from compactbio.tasks import ner_encoding
from compactbio.tasks.model_config import has_independent_outputs, unknown_words
from compactbio.tasks.registry import TASKS
from compactbio.tasks.relation_classes import Scheme, scheme

Kind = TypeVar("Kind")


def listed(given: Iterable[Kind], kinds: type[Kind] | tuple[type[Kind], ...], noun: str) -> list[Kind]:
    """The elements of `given`, which is read once: a list, a generator, a column of a table, an array of one axis.

    Raises UserError for what is one element and not several, for a mapping, and for an element of another kind, which
    is named by its place; `noun` says what is wanted ("text").
    """
    if isinstance(given, (str, bytes, Mapping)) or getattr(given, "ndim", 1) != 1:
        raise UserError(f"Give a list of {noun}s, not {_article(given)}: [{noun}] for one alone.")
    try:
        elements = list(given)
    except TypeError:
        raise UserError(f"Give a list of {noun}s, not {_article(given)}.") from None
    for place, element in enumerate(elements):
        check(element, kinds, f"{noun.capitalize()} {place} (counted from 0)")
    return elements


def check(element: Any, kinds: type | tuple[type, ...], name: str) -> None:
    """Refuse an element of another kind, without its content, which may be a patient's."""
    if not isinstance(element, kinds):
        wanted = kinds if isinstance(kinds, tuple) else (kinds,)
        raise UserError(f"{name} is {_article(element)}; give {' or '.join(one.__name__ for one in wanted)}.")


def _article(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


@dataclass(frozen=True)
class Opened:
    """A model of a task: `labels` in the order of their ids, none for questions; lengths in tokens, as in its run.

    `scheme` says of a relation model's labels which are of no relation, `independent` whether several of them may hold.
    `joined` are the neighbourhoods in which a sign stays in its word, `doubt` a sentence where
    an NER model does not say.
    """

    name: str
    runtime: Runtime
    tokenizer: PreTrainedTokenizerFast
    labels: tuple[str, ...]
    max_length: int
    stride: int
    scheme: Scheme | None = None
    independent: bool = False
    joined: frozenset[str] = frozenset()
    doubt: str | None = None


def parted(name: str) -> tuple[str, str]:
    """The type that "TYPE=MODEL" gives the mentions of a model without types, and the model; a path is a model."""
    kind, separator, model = name.partition("=")
    return (kind, model) if separator and not Path(name).exists() else ("", name)


def opened(name: str, task: str, runtime: str, threads: int | None) -> Opened:
    """Open a model by local folder or hub name; `runtime` is one of `runtimes.NAMES`, "auto" or "fastest" (see
    `choosing.chosen`).

    Raises UserError for a model of another task, without labels, or that cannot be read.
    """
    source = runtimes.find(name, runtime)
    own = runtimes.task_of(source)
    if own != task:
        raise UserError(f"{name} is fine-tuned for {own}; name a model that is fine-tuned for {task}.")
    labels = TASKS[task].model_labels(source.config, source.name, [])
    loaded = Portable(source, runtimes.chosen(source, runtime, threads), threads)
    settings = scoring.settings_of(source, task)
    return Opened(
        source.public_name(),
        loaded,
        loading.tokenizer_of(source),
        tuple(labels),
        min(settings.max_length, loaded.longest or settings.max_length),
        settings.stride,
        scheme(labels, settings.negative, settings.scheme) if task == "relation" else None,
        has_independent_outputs(source.config),
        frozenset(settings.joined_signs or ()),
        unknown_words(source.config, source.public_name()) if task == "ner" else None,
    )


_LOGGER = logging.getLogger("compactbio.annotate")


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
        encoded = ner_encoding.encode(documents, model.tokenizer, {}, model.max_length, model.joined)
        logits = yield from _logits(model.runtime, encoded.rows, tokens)
        found = ner_encoding.mentions(encoded, logits, model.labels)
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
        taggers = [tagger(str(name), runtime, threads) for name in names]
        for one in taggers:
            if one.model.doubt:
                _LOGGER.warning(one.model.doubt)
        return cls(taggers)

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


def tagger(name: str, runtime: str, threads: int | None) -> Tagger:
    """Load a model, named as of `Annotator.from_pretrained`."""
    unnamed, model = parted(name)
    return Tagger(opened(model, "ner", runtime, threads), unnamed)


def _document(text: str | Document) -> Document:
    document = text if isinstance(text, Document) else Document("", text)
    return Document(document.id, without_surrogates(document.text), tokenised=document.tokenised)


def _apart(found: Sequence[tuple[float, int, Span]]) -> list[tuple[Span, float]]:
    """What is kept of (score, place in the order of models, mention), by start."""
    taken = bytearray(max((span.end for _, _, span in found), default=0))  # (characters,): 1 where a kept mention is
    kept: list[tuple[Span, float]] = []
    for score, _, span in sorted(found, key=lambda one: (-one[0], one[2].start - one[2].end, one[1])):
        if taken.find(1, span.start, span.end) < 0:
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append((span, score))
    return sorted(kept, key=lambda one: one[0].start)
