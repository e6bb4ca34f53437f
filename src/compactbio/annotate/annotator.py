"""The annotators: texts in, entities with character offsets, types and scores out; relations and answers likewise."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any, Self, Unpack

import numpy as np

from compactbio.annotate import models
from compactbio.annotate.models import InputAnnotator, LoadedModel, LoadOptions, load_model
from compactbio.documents import Document, Question, Span
from compactbio.documents.names import key, split_type
from compactbio.documents.words import without_surrogates
from compactbio.errors import UserError, check_named
from compactbio.formats.json_lines import validated_document
from compactbio.modeling.loading import Source
from compactbio.tasks import ner_encoding, qa, relation
from compactbio.tasks.marking import Marking, check_marks, marked_sentence
from compactbio.tasks.marking import pairs as pairs_of

Asked = tuple[str, Iterable[str]]  # a question and the texts that may answer it


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
    """One NER model; `kind` is the name of its one type where it is not to be its own."""

    model: LoadedModel
    kind: str = ""

    @property
    def types(self) -> list[str]:
        """The types that it finds."""
        return [self.kind] if self.kind else _types(self.model.labels)

    def mentions(
        self, documents: Sequence[Document], tokens: int | None
    ) -> Generator[None, None, list[tuple[int, Span, float]]]:
        """Each mention with its document's place and its score, where that is high enough; see `Annotator.steps`."""
        model = self.model
        encoded = ner_encoding.encode(documents, model.tokenizer, {}, model.max_length, model.joined)
        logits = yield from model.logits_in_steps(encoded.rows, tokens)
        found = ner_encoding.mentions(encoded, logits, model.labels, model.decoding)
        scores = found.scores(model.scoring.temperature).tolist()
        return [
            (place, Span(s.start, s.end, self.kind or s.type), score)
            for (place, s), score in zip(found.places, scores, strict=True)
            if score >= model.scoring.lowest(s.type)
        ]


class Annotator(InputAnnotator[str | Document, Entity]):
    """Finds entities in texts of any length with one or more fine-tuned NER models.

    A text is cut into sentences and words as in fine-tuning. A sentence that is longer than a model is covered by
    overlapping windows, each word decided where it is most central; nothing is cut off. Entities of different types may
    overlap where they are from several models, or from one that learnt its types from several data sets. Of overlapping
    entities of one type, which only several models give, the one with the higher score is kept, then the longer one,
    then that of the model that was named first. Several threads may use an annotator at the same time.

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
        _check_distinct([(tagger.model.name, tagger.types) for tagger in taggers])
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
            names: Local folders or hub names; "TYPE=NAME" gives the mentions of a model of one type this type.
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
                for a precision where a model has no calibration, for one type of a model that knows several, and for
                several models whose mentions have no type.
        """
        if not names:
            raise UserError("Name at least one model to annotate with.")
        options: LoadOptions = {
            "runtime": runtime, "device": device, "threads": threads, "tokens_per_batch": tokens_per_batch,
            "min_precision": min_precision,
        }  # fmt: skip
        taggers = [load_tagger(check_named(name, "The name of a model"), **options) for name in names]
        for one in taggers:
            one.model.warn()
        return cls(taggers)

    def _checked(self, one: str | Document, place: int) -> str | Document:
        if isinstance(one, Document):
            _check_text(one, place)
        return one

    def _find(self, inputs: list[str | Document], min_score: float) -> list[list[Entity]]:
        return models.last_value(self.steps(inputs, min_score=min_score))

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
    kind, model = split_type(name)
    loaded = load_model(model, "ner", **options)
    _check_one_type(kind, model, loaded.labels)
    return Tagger(loaded, kind)


def find_taggers(names: Sequence[str], runtime: str) -> list[Source]:
    """What `Annotator.from_pretrained` would load. Raises UserError for what it would refuse."""
    found, named = list[Source](), list[tuple[str, list[str]]]()
    for name in names:
        kind, model = split_type(name)
        source, labels = models.find_model(model, "ner", runtime)
        _check_one_type(kind, model, labels)
        found.append(source)
        named.append((source.public_name(), [kind] if kind else _types(labels)))
    _check_distinct(named)
    return found


def _check_distinct(named: Sequence[tuple[str, list[str]]]) -> None:
    """Raise UserError where several models find mentions without a type: nothing would say which found what."""
    untyped = [name for name, types in named if types == [""]]
    if len(untyped) > 1:
        raise UserError(
            f"{' and '.join(untyped)} find mentions without a type, which nothing would distinguish: name their types, "
            f"as in Disease={untyped[0]}.",
            setting="model",
        )


def _check_one_type(kind: str, model: str, labels: Sequence[str]) -> None:
    if kind and len(types := _types(labels)) > 1:
        raise UserError(
            f"{model} finds several types ({', '.join(types)}), so {kind!r} cannot be their name: name the model alone."
        )


def _types(labels: Sequence[str]) -> list[str]:
    return sorted({label.partition("-")[2] for label in labels if label[0] != "O"})


def _check_text(document: Document, place: int) -> None:
    models.check_type(document.text, (str,), f"The text of document {place} (counted from 0)")


def _document(text: str | Document) -> Document:
    document = text if isinstance(text, Document) else Document("", text)
    text = without_surrogates(document.text)
    return Document(document.id, text, tokenised=document.tokenised, passages=document.passages)


def _without_overlaps(found: Sequence[tuple[float, int, Span]]) -> list[tuple[Span, float]]:
    """What is kept of (score, place in the order of models, mention): by start, a mention before those within it."""
    length = max((span.end for _, _, span in found), default=0)
    # By type (characters,): 1 where a kept mention is.
    taken = {key(span.type): bytearray(length) for _, _, span in found}
    kept: list[tuple[Span, float]] = []
    for score, _, span in sorted(found, key=lambda one: (-one[0], one[2].start - one[2].end, one[1])):
        own = taken[key(span.type)]
        if own.find(1, span.start, span.end) < 0:
            own[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append((span, score))
    return sorted(kept, key=lambda one: (one[0].start, -one[0].end))


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
        models.check_type(marking, (Marking,), "The marking")
        check_marks(tuple(models.elements_of(marking.marks, (str,), "mark")))
        model = load_model(name, "relation", **options)
        model.warn()
        return cls(model, marking)

    def _checked(self, one: Document, place: int) -> Document:
        _check_text(one, place)
        document, wrong = validated_document(replace(one, text=without_surrogates(one.text)))
        if wrong:
            raise UserError(f"Document {place} (counted from 0) cannot be annotated: {wrong}; fix it first.")
        return document

    def _find(self, documents: list[Document], min_score: float) -> list[list[Related]]:
        marking = self._marking
        pairs = [(place, *pair) for place, document in enumerate(documents) for pair in pairs_of(document, marking)]
        found: list[list[Related]] = [[] for _ in documents]
        if not pairs:
            return found
        model = self._model
        # A row needs some class; the model does not see it.
        marked = [
            marked_sentence(documents[place], sentence, pair, marking.marks, model.labels[0])
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

    _types, _noun, _highest = (tuple, list), "pair", inf

    def __init__(self, model: LoadedModel) -> None:
        self._model = model

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Unpack[LoadOptions]) -> Self:
        """Load a question answering model; `options`, and what is raised, as for `Annotator.from_pretrained`."""
        return cls(load_model(name, "qa", **options))

    def _is_one(self, inputs: Any) -> bool:
        return isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[0], str)

    def _checked(self, one: Asked, place: int) -> Asked:
        return _pair(one, place)

    def _find(self, pairs: list[Asked], min_score: float) -> list[list[Answer]]:
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
    models.check_type(one[0], (str,), f"The question of pair {place} (counted from 0)")
    return without_surrogates(one[0]), [without_surrogates(text) for text in models.elements_of(one[1], (str,), "text")]
