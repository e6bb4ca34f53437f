"""Relation extraction as the classing of sentences with two marked mentions: labels, classes and scores."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.tasks.outcome import Mistake, Outcome
from compactbio.tasks.scheme import Scheme, looks_negative, scheme

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
