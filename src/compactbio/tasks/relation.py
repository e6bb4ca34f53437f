"""Relation extraction as the classification of sentences with two marked mentions: rows, classes, scores."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.modeling.packing import NO_LABEL, Row
from compactbio.modeling.tokenizers import Pieces, pieces
from compactbio.tasks.outcome import Mistake, Outcome
from compactbio.tasks.relation_classes import Scheme, looks_negative, scheme

__all__ = ["Scheme", "label_of", "outcome", "scheme", "score"]


def label_of(document: Document) -> str:
    """The type of a document's one relation. Raises UserError where it has none or several."""
    if len(document.relations) != 1:
        raise UserError(
            f"Document {document.id!r} has {len(document.relations)} relations; "
            "relation extraction needs one document for each marked pair, with one relation."
        )
    return document.relations[0].type


def score(
    gold: Sequence[str],
    predicted: Sequence[str],
    evaluated: Sequence[str] | None = None,
    negative: Sequence[str] | None = None,
) -> dict[str, float]:
    """Micro precision, recall and F1 over the `evaluated` classes, and accuracy over all; all in [0, 1].

    By default labels become classes, and classes are chosen, by the scheme of the gold labels, `negative` as there; a
    predicted class that the gold lacks counts as wrong. Where one class is evaluated there is `specificity`, the share
    of the other examples that are not given it. Raises UserError where the two sides differ in length.
    """
    if len(gold) != len(predicted):
        raise UserError(f"The gold has {len(gold)} labels, the predictions {len(predicted)}; they must be the same.")
    if evaluated is None:
        own = scheme(gold, negative)
        gold, predicted = [own.map(label) for label in gold], [own.map(label) for label in predicted]
        evaluated = _scored(own, [*gold, *predicted])
    counts = _counts(gold, predicted, evaluated)
    scores = {**_rates(counts.sum(0)), "accuracy": sum(map(str.__eq__, gold, predicted)) / max(len(gold), 1)}
    if len(evaluated) == 1:
        scores["specificity"] = _specificity(gold, predicted, evaluated[0])
    return scores


def outcome(documents: Sequence[Document], predicted: Sequence[str], scheme: Scheme) -> Outcome:
    """The outcome of the labels predicted for documents; a unit is an example, its sums (tp, fp, fn).

    A class, of gold or predictions, that is none of the scheme's is scored all the same, and reported in the notes.
    Raises UserError as `label_of` and `score` do.
    """
    gold = [scheme.map(label_of(document)) for document in documents]
    predicted = [scheme.map(label) for label in predicted]
    evaluated = _scored(scheme, [*gold, *predicted])
    return Outcome(
        metric="f1",
        scores=score(gold, predicted, evaluated),
        units=_counts(gold, predicted, evaluated),
        statistic="f1",
        unit="example",
        per_type=_per_class(gold, predicted),
        mistakes=tuple(
            _mistake(own, other, evaluated, document.text)
            for document, own, other in zip(documents, gold, predicted, strict=True)
            if own != other
        ),
        notes=_notes(gold, predicted, scheme),
        scheme=scheme.record(),
    )


def _scored(scheme: Scheme, labels: Iterable[str]) -> list[str]:
    """The evaluated classes, and those of `labels` that the scheme does not know and that name a relation."""
    unknown = {label for label in set(labels) if label not in scheme.classes and not looks_negative(label)}
    return [*scheme.evaluated, *sorted(unknown)]


def _counts(gold: Sequence[str], predicted: Sequence[str], evaluated: Iterable[str]) -> NDArray[np.float64]:
    """(n, 3): each example's true positives, false positives and false negatives."""
    scored = set(evaluated)
    rows = [
        (own == other and own in scored, own != other and other in scored, own != other and own in scored)
        for own, other in zip(gold, predicted, strict=True)
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def _rates(sums: NDArray[np.float64]) -> dict[str, float]:
    tp, fp, fn = (float(value) for value in sums)
    return {
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0,
    }


def _specificity(gold: Sequence[str], predicted: Sequence[str], positive: str) -> float:
    others = [other for own, other in zip(gold, predicted, strict=True) if own != positive]
    return sum(other != positive for other in others) / max(len(others), 1)


def _per_class(gold: Sequence[str], predicted: Sequence[str]) -> dict[str, dict[str, float]]:
    support = Counter(gold)
    return {
        name: {**_rates(_counts(gold, predicted, [name]).sum(0)), "support": float(support[name])}
        for name in sorted({*gold, *predicted})
    }


def _mistake(gold: str, predicted: str, evaluated: Sequence[str], context: str) -> Mistake:
    if gold in evaluated:
        return Mistake("confused" if predicted in evaluated else "missed", gold, predicted, context)
    return Mistake("spurious" if predicted in evaluated else "confused", gold, predicted, context)


def _notes(gold: Sequence[str], predicted: Sequence[str], scheme: Scheme) -> tuple[str, ...]:
    notes = [scheme.sentence]
    if scheme.negative is not None and not set(scheme.negatives) & set(gold):
        notes.append(f"Class {scheme.negative} does not occur in the data scored, which makes them easier.")
    notes += scheme.remarks
    notes += [
        f"{count} examples are of class {label}, which the model does not have; it is always wrong on them."
        for label, count in _unknown(gold, scheme)
    ]
    notes += [
        f"{count} predictions are of class {label}, which the data do not have; they count as wrong."
        for label, count in _unknown(predicted, scheme)
        if not looks_negative(label)
    ]
    return tuple(notes)


def _unknown(labels: Sequence[str], scheme: Scheme) -> list[tuple[str, int]]:
    return sorted(Counter(label for label in labels if label not in scheme.classes).items())


# What the class of no relation is called where a model has no output for it.
NO_RELATION = "no relation"
# Mentions as GAD (@GENE$), ChemProt's first (<< .. >>) and second ([[ .. ]]) are marked.
_MARK = re.compile(r"@\w+\$|<<.*?>>|\[\[.*?\]\]")


@dataclass(frozen=True)
class Encoded:
    """Documents as rows, one each, of the classes of `scheme`. `shortened` counts the sentences that were too long and
    lost pieces."""

    rows: tuple[Row, ...]
    shortened: int
    scheme: Scheme


def encode(
    documents: Sequence[Document],
    tokenizer: PreTrainedTokenizerFast,
    label_ids: Mapping[str, int],
    scheme: Scheme,
    max_length: int,
) -> Encoded:
    """The rows [CLS] sentence [SEP] of documents with one relation each, of at most `max_length` tokens.

    The id of the relation's class is the label of [CLS], -100 where `label_ids` does not know it and elsewhere.
    A sentence that is too long keeps the pieces around its marks: all from the first mark to the last with as much on
    either side, or, where these lie too far apart, the two with as much around each; marks that alone are longer than
    the row lose pieces. Without marks its beginning is kept. Raises UserError as `relation.label_of` does.
    """
    room = max_length - 2
    rows, shortened = [], 0
    for document, own in zip(documents, pieces([d.text for d in documents], tokenizer), strict=True):
        label = label_ids.get(scheme.map(label_of(document)), NO_LABEL)
        ids = own.ids
        if len(ids) > room:
            ids, shortened = ids[_kept(document, own, room)], shortened + 1
        rows.append(_row(ids, label, tokenizer))
    return Encoded(tuple(rows), shortened, scheme)


def decode(
    logits: NDArray[np.float32], names: Sequence[str], scheme: Scheme, *, independent: bool = False
) -> list[str]:
    """The class of each row from its logits (rows, outputs); `names` are the classes in the order of their ids.

    Of `independent` outputs the most probable counts where it is more probable than not, else the class of no relation.
    """
    shares = probabilities(logits, independent=independent)
    likely = (shares.max(-1) >= 0.5).tolist() if independent else [True] * len(shares)
    none = scheme.negative or NO_RELATION
    return [names[best] if sure else none for best, sure in zip(shares.argmax(-1).tolist(), likely, strict=True)]


def probabilities(logits: NDArray[np.float32], *, independent: bool) -> NDArray[np.float32]:
    """The probabilities (rows, classes) of logits (rows, outputs): their softmax, or of `independent` outputs each its
    own sigmoid. A single output is that of the second of two classes."""
    if logits.shape[-1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=-1)
    elif independent:
        return np.exp(-np.logaddexp(np.float32(0), -logits))
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)  # type: ignore[no-any-return]


def _row(ids: NDArray[np.int64], label: int, tokenizer: PreTrainedTokenizerFast) -> Row:
    tokens = np.concatenate([[tokenizer.cls_token_id], ids, [tokenizer.sep_token_id]])
    labels = np.full(len(tokens), NO_LABEL)
    labels[0] = label
    return Row(tokens, labels)


def _kept(document: Document, own: Pieces, room: int) -> NDArray[np.int64]:
    """The places of the `room` pieces that a sentence keeps."""
    marks = _marks(document)
    if not marks:
        return np.arange(room)
    places = [_places(mark, own) for mark in (marks[0], max(marks, key=lambda mark: mark[1]))]
    (first, _), (_, last) = places
    total = len(own.ids)
    if last - first <= room:
        return _around(first, last, room, total)
    sizes = _shared(room, *(stop - start for start, stop in places))
    return np.unique(np.concatenate([_around(*place, size, total) for place, size in zip(places, sizes, strict=True)]))


def _marks(document: Document) -> list[tuple[int, int]]:
    """The characters of the marks in the text and of the related mentions, sorted."""
    ends = (document.relations[0].head, document.relations[0].tail)
    related = [document.spans[end] for end in ends if isinstance(end, int) and end < len(document.spans)]
    return sorted([*(match.span() for match in _MARK.finditer(document.text)), *((s.start, s.end) for s in related)])


def _places(mark: tuple[int, int], own: Pieces) -> tuple[int, int]:
    """The pieces from the first to the last, end exclusive, that touch characters `mark`."""
    start, end = mark
    return int(np.searchsorted(own.offsets[:, 1], start, "right")), int(np.searchsorted(own.offsets[:, 0], end))


def _shared(room: int, first: int, second: int) -> tuple[int, int]:
    """What each of two marks of some pieces gets of a row: itself and half of what is free, or half of the row."""
    free = room - first - second
    own = first + free // 2 if free >= 0 else room // 2
    return own, room - own


def _around(first: int, last: int, size: int, total: int) -> NDArray[np.int64]:
    """`size` of `total` places with `first` to `last` in the middle, as far as the ends allow."""
    start = min(max((first + last - size) // 2, 0), total - size)
    return np.arange(start, start + size)
