"""Relation extraction as the classing of sentences with two marked mentions: labels, classes and scores."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.tasks.outcome import Mistake, Outcome

# The groups of BioCreative VI's ChemProt guidelines, which write some names with "_" and some with "-".
_CHEMPROT = {
    "CPR:0": ("UNDEFINED",),
    "CPR:1": ("PART-OF",),
    "CPR:2": ("REGULATOR", "DIRECT-REGULATOR", "INDIRECT-REGULATOR"),
    "CPR:3": ("UPREGULATOR", "ACTIVATOR", "INDIRECT-UPREGULATOR"),
    "CPR:4": ("DOWNREGULATOR", "INHIBITOR", "INDIRECT-DOWNREGULATOR"),
    "CPR:5": ("AGONIST", "AGONIST-ACTIVATOR", "AGONIST-INHIBITOR"),
    "CPR:6": ("ANTAGONIST",),
    "CPR:7": ("MODULATOR", "MODULATOR-ACTIVATOR", "MODULATOR-INHIBITOR"),
    "CPR:8": ("COFACTOR",),
    "CPR:9": ("SUBSTRATE", "PRODUCT-OF", "SUBSTRATE-PRODUCT-OF"),
    "CPR:10": ("NOT",),
}
_GROUPS = {name: group for group, names in _CHEMPROT.items() for name in (group, *names)}
_EVALUATED = ("CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9")
_NEGATIVE = frozenset({"FALSE", "NONE", "NO-RELATION", "OTHER", "0", "NEGATIVE"})
# ChemProt's groups that are not scored, where the data have no pairs without a relation to put them with.
_UNSCORED = "other"


@dataclass(frozen=True)
class Scheme:
    """How the labels of a data set become a model's classes, and which classes are scored.

    `name` is "binary" (labels 0 and 1), "ChemProt" or "labels" (any other set). `classes` are a model's, sorted; its
    ids count them. `negative` is the class of what is no relation, None where the data have none. `sentence` says
    for a table of results what was scored.
    """

    name: str
    classes: tuple[str, ...]
    evaluated: tuple[str, ...]
    negative: str | None
    sentence: str

    def map(self, label: str) -> str:
        """The class of a label; a label of the third scheme stands for itself, known or not.

        Raises UserError for a label that is not of the first two schemes.
        """
        if self.name == "labels":
            return label
        if self.name == "binary":
            return _binary_class(label)
        group = _group(label)
        if group is None:
            raise UserError(f"{label!r} is no label of ChemProt: correct it, or give training and test data alike.")
        return group if group in _EVALUATED else self.negative or "false"


def scheme(labels: Iterable[str]) -> Scheme:
    """Recognise a data set by its training labels; the classes of a scheme have that scheme.

    GAD and EU-ADR are binary, class 1 is scored. ChemProt's relations or groups (CPR:n) become the five groups that
    BioCreative VI scores, all else is the class "false", or "other" where no label says that a pair has no relation.
    DrugProt's relations have the same names, and so are grouped too. Of other labels all are scored but
    a class named false, none, no_relation, other, 0 or negative. Raises UserError where there are no labels.
    """
    distinct = set(labels)
    if not distinct:
        raise UserError("The data hold no relation labels: give data with one labelled relation a sentence.")
    if distinct <= {"0", "1"}:
        return Scheme("binary", ("0", "1"), ("1",), "0", "Scored is class 1; class 0 is the negative class.")
    groups = {_group(label) for label in distinct}
    if None not in groups and groups & set(_CHEMPROT):
        return _chemprot(groups)
    return _open(distinct)


def label_of(document: Document) -> str:
    """The type of a document's one relation. Raises UserError where it has none or several."""
    if len(document.relations) != 1:
        raise UserError(
            f"Document {document.id!r} has {len(document.relations)} relations; "
            "relation extraction needs one document for each marked pair, with one relation."
        )
    return document.relations[0].type


def score(gold: Sequence[str], predicted: Sequence[str], evaluated: Sequence[str] | None = None) -> dict[str, float]:
    """Micro precision, recall and F1 over the `evaluated` classes, and accuracy over all; all in [0, 1].

    By default labels become classes, and classes are chosen, by the scheme of the gold labels; a predicted class that
    the gold lacks counts as wrong. Where one class is evaluated there is `specificity`, the share of the other
    examples that are not given it. Raises UserError where the two sides differ in length.
    """
    if len(gold) != len(predicted):
        raise UserError(f"The gold has {len(gold)} labels, the predictions {len(predicted)}; they must be the same.")
    if evaluated is None:
        own = scheme(gold)
        gold, predicted = [own.map(label) for label in gold], [own.map(label) for label in predicted]
        evaluated = _scored(own, [*gold, *predicted])
    counts = _counts(gold, predicted, evaluated)
    scores = {**_rates(counts.sum(0)), "accuracy": sum(map(str.__eq__, gold, predicted)) / max(len(gold), 1)}
    if len(evaluated) == 1:
        scores["specificity"] = _specificity(gold, predicted, evaluated[0])
    return scores


def outcome(documents: Sequence[Document], predicted: Sequence[str], scheme: Scheme) -> Outcome:
    """The outcome of the classes predicted for documents; a unit is an example, its sums (tp, fp, fn).

    A gold class that is none of the scheme's is scored all the same, and told in the notes.
    Raises UserError as `label_of` and `score` do.
    """
    gold = [scheme.map(label_of(document)) for document in documents]
    evaluated = _scored(scheme, gold)
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
        notes=_notes(gold, scheme),
    )


def _group(label: str) -> str | None:
    """The ChemProt group of a label, "false" for one that names no relation, None for a label of another data set."""
    name = _normal(label)
    if name == _UNSCORED.upper():
        return _UNSCORED
    return "false" if name in _NEGATIVE else _GROUPS.get(name)


def _normal(label: str) -> str:
    return label.strip().upper().replace("_", "-")


def _is_negative(label: str) -> bool:
    return _normal(label) in _NEGATIVE


def _binary_class(label: str) -> str:
    if label not in ("0", "1"):
        raise UserError(f"The label {label!r} stands in data of the labels 0 and 1: give every pair one of these two.")
    return label


def _chemprot(groups: set[str | None]) -> Scheme:
    """The sentence hangs on pairs without a relation: published figures are from data that have them."""
    negative = "false" if "false" in groups else _UNSCORED if groups - set(_EVALUATED) else None
    sentence = "Scored are ChemProt's groups CPR:3, 4, 5, 6 and 9, " + (
        "with the negative class."
        if negative == "false"
        else "without the negative class: an easier task, not comparable with published ChemProt figures."
    )
    return Scheme("ChemProt", (*_EVALUATED, *([negative] if negative else [])), _EVALUATED, negative, sentence)


def _open(labels: set[str]) -> Scheme:
    classes = tuple(sorted(labels))
    evaluated = tuple(label for label in classes if not _is_negative(label))
    negative = next((label for label in classes if label not in evaluated), None)
    sentence = "Scored are all classes; the data have no negative class."
    if negative is not None:
        sentence = f"Scored are all classes but {negative}, the negative class."
    return Scheme("labels", classes, evaluated, negative, sentence)


def _scored(scheme: Scheme, labels: Iterable[str]) -> list[str]:
    """The evaluated classes, and those of `labels` that the scheme does not know."""
    unknown = {label for label in labels if label not in scheme.classes and not _is_negative(label)}
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


def _notes(gold: Sequence[str], scheme: Scheme) -> tuple[str, ...]:
    notes = [scheme.sentence]
    if scheme.negative is not None and scheme.negative not in gold:
        notes.append(f"Class {scheme.negative} does not occur in the data scored, which makes them easier.")
    unknown = Counter(label for label in gold if label not in scheme.classes)
    notes += [
        f"{count} examples are of class {label}, which the model does not have; it is always wrong on them."
        for label, count in sorted(unknown.items())
    ]
    return tuple(notes)
