"""The annotator: texts in, entities with character offsets, types and scores out."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self, Unpack

from compactbio.annotate.models import InputAnnotator, LoadedModel, LoadOptions, last_value, load_model
from compactbio.documents import Document, Span
from compactbio.documents.names import split_type
from compactbio.documents.words import without_surrogates
from compactbio.errors import UserError
from compactbio.tasks import ner_encoding


@dataclass(frozen=True, slots=True)
class Entity:
    """A mention of an entity in a text.

    Attributes:
        start: Its first character in the text, counted from 0.
        end: The character after its last one.
        text: The text's characters from `start` to `end`.
        type: Its type, "" where the model names none.
        score: In (0, 1]: the probability of a mention of this type, as a mean over the mention's words,
            calibrated where the model is.
    """

    start: int
    end: int
    text: str
    type: str
    score: float


@dataclass(frozen=True)
class Tagger:
    """One NER model; `unnamed` is the type of its bare labels."""

    model: LoadedModel
    unnamed: str = ""

    @property
    def types(self) -> list[str]:
        """The types that it finds."""
        return sorted({label.partition("-")[2] or self.unnamed for label in self.model.labels if label[0] != "O"})

    def mentions(
        self, documents: Sequence[Document], tokens: int | None
    ) -> Generator[None, None, list[tuple[int, Span, float]]]:
        """Each mention with its document's place and its score, where that is high enough; see `Annotator.steps`."""
        model = self.model
        encoded = ner_encoding.encode(documents, model.tokenizer, {}, model.max_length, model.joined)
        logits = yield from model.logits_in_steps(encoded.rows, tokens)
        found = ner_encoding.mentions(encoded, logits, model.labels, valid=model.iob2)
        scores = found.scores(model.scoring.temperature).tolist()
        return [
            (place, Span(s.start, s.end, s.type or self.unnamed), score)
            for (place, s), score in zip(found.places, scores, strict=True)
            if score >= model.scoring.lowest(s.type)
        ]


class Annotator(InputAnnotator[str | Document, Entity]):
    """Finds entities in texts of any length with one or more fine-tuned NER models.

    A text is cut into sentences and words as in fine-tuning. A sentence that is longer than a model is covered by
    overlapping windows, each word decided where it is most central; nothing is cut off. Of overlapping entities,
    which only several models give, the one with the higher score is kept, then the longer one, then that of the model
    that was named first. Several threads may use an annotator at the same time.

    Examples:
        >>> from compactbio import Annotator
        >>> annotator = Annotator.from_pretrained("tagger")
        >>> annotator("Risk of lung cancer")
        [Entity(start=8, end=19, text='lung cancer', type='Drug', score=...)]
        >>> [len(entities) for entities in annotator(["aspirin and insulin", "the control group"])]
        [2, 0]
        >>> texts = ("aspirin " * (i % 3) for i in range(6))
        >>> [len(entities) for entities in annotator.stream(texts, batch_size=4)]
        [0, 1, 2, 0, 1, 2]
    """

    _types, _noun = (str, Document), "text"

    def __init__(self, taggers: Sequence[Tagger]) -> None:
        self.taggers = tuple(taggers)

    @classmethod
    def from_pretrained(
        cls,
        *names: str | Path,
        runtime: str = "auto",
        device: str = "auto",
        threads: int | None = None,
        tokens_per_batch: int | None = None,
        min_precision: float | None = None,
    ) -> Self:
        """Load one or more NER models.

        Args:
            names: Local folders or hub names; "TYPE=NAME" gives the mentions of a model without types this type.
            runtime: "torch-fp32", "torch-bf16", "onnx-fp32" or "onnx-int8"; "auto" is what the folder was exported
                for, else PyTorch in fp32; "fastest" is measured on this machine, and the answer is kept.
            device: "cpu", "cuda", or "auto" for a CUDA GPU where there is one. ONNX Runtime runs on the CPU.
            threads: Threads of the processor; by default one per core.
            tokens_per_batch: Tokens that are computed together at most, which bounds the memory; by default what the
                runtime is fastest with.
            min_precision: Leave out mentions whose score is lower than the lowest one of their type at which, on the
                data that the model was calibrated on, at least this share of the mentions was right.

        Raises:
            UserError: For what is not an NER model, has no labels, or cannot be read, for a device that is not there,
                and for a precision where a model has no calibration.
        """
        if not names:
            raise UserError("Name at least one model to annotate with.")
        options: LoadOptions = {
            "runtime": runtime, "device": device, "threads": threads, "tokens_per_batch": tokens_per_batch,
            "min_precision": min_precision,
        }  # fmt: skip
        taggers = [load_tagger(str(name), **options) for name in names]
        for one in taggers:
            one.model.warn()
        return cls(taggers)

    def _find(self, inputs: list[str | Document], min_score: float) -> list[list[Entity]]:
        return last_value(self.steps(inputs, min_score=min_score))

    def steps(
        self, texts: Sequence[str | Document], *, min_score: float = 0.0, tokens: int | None = None
    ) -> Generator[None, None, list[list[Entity]]]:
        """What a call does, in steps of at most `tokens` tokens of a model, so that long work can be left or shared.

        Yields after each step, and returns what a call returns. Without `tokens` a step is as large as the annotator's
        `tokens_per_batch`, or everything.
        """
        documents = [_document(text) for text in texts]
        found: list[list[tuple[float, int, Span]]] = [[] for _ in documents]
        for tagger in self.taggers:
            for place, span, score in (yield from tagger.mentions(documents, tokens)):
                if score >= min_score:
                    found[place].append((score, len(found[place]), span))
        originals = [text.text if isinstance(text, Document) else text for text in texts]
        return [
            [
                Entity(span.start, span.end, text[span.start : span.end], span.type, score)
                for span, score in _without_overlaps(mentions)
            ]
            for text, mentions in zip(originals, found, strict=True)
        ]


def load_tagger(name: str, **options: Unpack[LoadOptions]) -> Tagger:
    """Load one model; `name` and `options` as for `Annotator.from_pretrained`."""
    unnamed, model = split_type(name)
    return Tagger(load_model(model, "ner", **options), unnamed)


def _document(text: str | Document) -> Document:
    document = text if isinstance(text, Document) else Document("", text)
    return Document(document.id, without_surrogates(document.text), tokenised=document.tokenised)


def _without_overlaps(found: Sequence[tuple[float, int, Span]]) -> list[tuple[Span, float]]:
    """What is kept of (score, place in the order of models, mention), by start."""
    taken = bytearray(max((span.end for _, _, span in found), default=0))  # (characters,): 1 where a kept mention is
    kept: list[tuple[Span, float]] = []
    for score, _, span in sorted(found, key=lambda one: (-one[0], one[2].start - one[2].end, one[1])):
        if taken.find(1, span.start, span.end) < 0:
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append((span, score))
    return sorted(kept, key=lambda one: one[0].start)
