"""How the labels of a relation data set become classes: which of them are scored, and which says "no relation"."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from compactbio.documents.names import clean, key, spellings
from compactbio.errors import UserError

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
# ChemProt's groups that are not scored, where the data have no pairs without a relation to put them with.
_UNSCORED = "other"
# BioCreative VII's DrugProt has thirteen relations, scored one by one; two of them are in no scored ChemProt group.
_DRUGPROT_ALONE = frozenset({"DIRECT-REGULATOR", "PART-OF"})
_DRUGPROT = _DRUGPROT_ALONE | {
    *("INDIRECT-DOWNREGULATOR", "INDIRECT-UPREGULATOR", "ACTIVATOR", "INHIBITOR", "AGONIST", "AGONIST-ACTIVATOR"),
    *("AGONIST-INHIBITOR", "ANTAGONIST", "PRODUCT-OF", "SUBSTRATE", "SUBSTRATE-PRODUCT-OF"),
}
_CHEMPROT_ALONE = _GROUPS.keys() - _DRUGPROT - {"NOT", "UNDEFINED"}
# Without blanks and signs: TACRED's no_relation, DocRED's Na, DDI-2013's DDI-false, BLURB's CPR:false, BioRED's None.
_NEGATIVE = frozenset(
    (
        *("0", "false", "none", "na", "null", "nil", "no", "negative", "neg", "norel", "norelation", "norelations"),
        *("norelationship", "nonrel", "nonrelation", "nonrelated", "notrelated", "unrelated", "nolink"),
        *("nointeraction", "noninteraction", "noassociation", "nonassociation", "notassociated"),
    )
)
_NEGATIVE_ENDS = ("false", "norelation", "nonrelation")
_NEGATIVE_LAST = frozenset({"none", "null", "nil", "na"})
# A relation in some sets, no relation in others (SemEval-2010 task 8): taken where no other class is named so.
_PERHAPS = frozenset({"other", "others", "not", "n", "nr", "1nr2"})
# i2b2 2010 has three classes of unrelated pairs, by the kinds of concepts.
_I2B2 = frozenset({"ntrp", "ntep", "npp"})
_I2B2_RELATIONS = frozenset({"trip", "trwp", "trcp", "trap", "trnap", "terp", "tecp", "pip"})
# EU-ADR: positive, speculative, negative and false associations; the last are pairs that only occur together.
_EUADR = frozenset({"pa", "sa", "na", "fa"})
_SIGNS = re.compile(r"[\W_]+")

NAMES = ("chemprot", "labels")


@dataclass(frozen=True)
class Scheme:
    """How the labels of a data set become a model's classes, and which classes are scored.

    Args:
        name: "binary" (labels 0 and 1), "ChemProt" or "labels" (any other set).
        classes: a model's, sorted, in the order of their ids.
        evaluated: those that are scored.
        negative: the class of no relation, the first of several, None where the data have none.
        sentence: says for a table of results what was scored.
        remarks: sentences on what could have been decided otherwise.
        named: the labels of no relation that the user named, None where their names alone decided.
    """

    name: str
    classes: tuple[str, ...]
    evaluated: tuple[str, ...]
    negative: str | None
    sentence: str
    remarks: tuple[str, ...] = field(default=(), compare=False)
    named: tuple[str, ...] | None = field(default=None, compare=False)

    def map(self, label: str) -> str:
        """The class of a label; under "labels", a label that is neither a class nor named as no relation is its own.

        Raises UserError for a label that is not of the first two schemes.
        """
        if self.name == "binary":
            if clean(label) not in self.classes:
                raise UserError(
                    f"The label {clean(label)!r} is in data of the labels 0 and 1: give every pair one of these two."
                )
            return clean(label)
        if self.name == "labels":
            if known := self._classes.get(key(label)):
                return known
            return self.negative if self.negative and looks_negative(label) else clean(label)
        group = "false" if key(label) in map(key, self.named or ()) else _group(label)
        if group is None:
            raise UserError(f"{label!r} is not a label of ChemProt: correct it, or give training and test data alike.")
        return group if group in _EVALUATED else self.negative or "false"

    def find(self, label: str) -> str | None:
        """The class of a label, None for one that is of no class."""
        try:
            found = self.map(label)
        except UserError:
            return None
        return found if found in self.classes else None

    @property
    def negatives(self) -> tuple[str, ...]:
        """All classes of no relation."""
        return tuple(name for name in self.classes if name not in self.evaluated)

    def record(self) -> dict[str, Any]:
        """What was scored, as a JSON value."""
        return {"name": self.name, "evaluated": list(self.evaluated), "negative": list(self.negatives)}

    def memory(self) -> dict[str, Any]:
        """The arguments of `scheme` that give this scheme again for its own classes, by the names of the settings."""
        # What was unclear is decided, and reported, each time.
        undecided = self.named is None and (self.name == "ChemProt" or self.remarks)
        negative = None if undecided else self.negatives if self.named is None else self.named
        return {
            "negative": None if negative is None else list(negative),
            "scheme": None if self.name == "binary" else self.name.lower(),
        }

    @cached_property
    def _classes(self) -> dict[str, str]:
        return spellings(self.classes)


def scheme(labels: Iterable[str], negative: Sequence[str] | None = None, name: str | None = None) -> Scheme:
    """Recognise a data set by its training labels; given a scheme's own classes, it finds the same scheme.

    GAD and EU-ADR are binary, class 1 is scored. ChemProt's relations or groups (CPR:n) become the five groups that
    BioCreative VI scores, all else is the class "false", or "other" where no label says that a pair has no relation.
    DrugProt's relations, known by those that ChemProt does not score, stay as they are. Of other labels all are scored
    but the class of no relation, which is known by the names that published sets give it.

    Args:
        labels: of the training data, as often as they occur.
        negative: the labels of no relation; None to know them by their names, an empty list for none.
        name: "chemprot" to group, "labels" to score each label by itself, None to decide by the labels.

    Raises UserError where there are no labels, none of a name given, or one that ChemProt does not have.
    """
    distinct = set(spellings(labels).values())
    if not distinct:
        raise UserError("The data hold no relation labels: give data with one labelled relation per sentence.")
    if name not in (None, *NAMES):
        raise UserError(f"{name!r} is not a scheme of classes: take {' or '.join(NAMES)}.", setting="scheme")
    named = None if negative is None else tuple(map(clean, negative))
    if distinct <= {"0", "1"} and name is None:
        return _binary(named)
    aside = set(map(key, named or ()))
    groups = {_group(label) for label in distinct if key(label) not in aside}
    normal = {_normal(label) for label in distinct}
    known = None not in groups and bool(groups & set(_CHEMPROT))
    if name == "chemprot" and not known:
        foreign = sorted(label for label in distinct if key(label) not in aside and _group(label) is None)
        raise UserError(
            f"Not labels of ChemProt: {', '.join(foreign) or 'all'}; leave the scheme chemprot out.", setting="scheme"
        )
    drugprot = bool(normal & _DRUGPROT_ALONE) and not normal & _CHEMPROT_ALONE
    if known and (name == "chemprot" or (name is None and not drugprot)):
        if not distinct <= {*_EVALUATED, "false", _UNSCORED}:
            _found(distinct, named or ())
        either = name is None and not normal & _CHEMPROT_ALONE
        return _chemprot(groups | ({"false"} if named else set()), named, either=either)
    return _open(distinct, named, drugprot=known and drugprot and name is None)


def looks_negative(label: str) -> bool:
    """Whether a label is named as published sets name the class of no relation."""
    name = key(label)
    flat = _SIGNS.sub("", name)
    last = _SIGNS.split(name)[-1]
    return (
        name == "-1" or flat in _NEGATIVE or flat.endswith(_NEGATIVE_ENDS) or (last in _NEGATIVE_LAST and last != flat)
    )


def _binary(named: tuple[str, ...] | None) -> Scheme:
    negatives = ("0",) if named is None else _found({"0", "1"}, named)
    if len(negatives) != 1:
        return _open({"0", "1"}, named, drugprot=False)
    [negative] = negatives
    scored = "0" if negative == "1" else "1"
    sentence = f"Class {scored} is scored; class {negative} is the negative class."
    return Scheme("binary", ("0", "1"), (scored,), negative, sentence, named=named)


def _group(label: str) -> str | None:
    """The ChemProt group of a label, "false" for one that names no relation, None for a label of another data set."""
    name = _normal(label)
    if name == _UNSCORED.upper():
        return _UNSCORED
    return "false" if looks_negative(label) else _GROUPS.get(name)


def _normal(label: str) -> str:
    return key(label).upper().replace("_", "-")


def _chemprot(groups: set[str | None], named: tuple[str, ...] | None, *, either: bool) -> Scheme:
    """The sentence depends on pairs without a relation: published scores are on data that have them."""
    negative = "false" if "false" in groups else _UNSCORED if groups - set(_EVALUATED) else None
    sentence = "ChemProt's groups CPR:3, 4, 5, 6 and 9 are scored, " + (
        "with the negative class."
        if negative == "false"
        else "without the negative class: an easier task, not comparable with published ChemProt figures."
    )
    remark = (
        "These labels are in ChemProt and in DrugProt, and are grouped as ChemProt's: --scheme labels scores each "
        "label by itself, as DrugProt does."
    )
    classes = (*_EVALUATED, *([negative] if negative else []))
    return Scheme("ChemProt", classes, _EVALUATED, negative, sentence, (remark,) if either else (), named)


def _open(labels: set[str], named: tuple[str, ...] | None, *, drugprot: bool) -> Scheme:
    classes = tuple(sorted(labels))
    negatives, remarks = (_found(labels, named), ()) if named is not None else _recognised(classes)
    if drugprot:
        remarks += ("These are DrugProt's relations, scored each by itself: scheme chemprot scores their groups.",)
    evaluated = tuple(label for label in classes if label not in negatives)
    if not evaluated:
        raise UserError("All classes are named as negative, so none is left to score.", setting="negative")
    sentence = "All classes are scored; the data have no negative class."
    if negatives:
        sentence = (
            f"All classes are scored except {_listed(negatives)}, the negative class{'es' * (len(negatives) > 1)}."
        )
    return Scheme("labels", classes, evaluated, next(iter(negatives), None), sentence, remarks, named)


def _found(labels: set[str], named: Sequence[str]) -> tuple[str, ...]:
    """Those of the labels that a user named."""
    known = {key(label): label for label in labels}
    for name in named:
        if key(name) not in known:
            raise UserError(
                f"There is no class {name!r} to take as negative: the classes are {_listed(sorted(labels))}.",
                setting="negative",
            )
    return tuple(sorted({known[key(name)] for name in named}))


def _recognised(classes: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The classes named as those of no relation, and remarks on what else could be meant."""
    flat = {label: _SIGNS.sub("", key(label)) for label in classes}
    held = set(flat.values())
    if "pa" in held and held <= _EUADR:
        false = tuple(label for label in classes if flat[label] == "fa")
        if "na" not in held:
            return false, ()
        return false, ("NA is EU-ADR's negative association here, and scored; else set negative to the right class.",)
    if held & _I2B2_RELATIONS and held & _I2B2:
        return tuple(label for label in classes if flat[label] in _I2B2 or looks_negative(label)), ()
    sure = tuple(label for label in classes if looks_negative(label))
    perhaps = tuple(label for label in classes if label not in sure and _perhaps_negative(label, flat[label]))
    taken = sure or perhaps
    if not taken:
        return (), (f"None of {_listed(classes)} is named as a class of no relation: if one is, set negative to it.",)
    if len(taken) > 1:
        return taken, (f"{_listed(taken)} are all named as classes of no relation: set negative if one is meant.",)
    if not sure:
        return taken, (f"{taken[0]} is taken as the class of no relation by its name: else set negative.",)
    if perhaps:
        return taken, (f"{_listed(perhaps)} is scored as a relation: if it is none, set negative to both.",)
    return taken, ()


def _perhaps_negative(label: str, flat: str) -> bool:
    parts = _SIGNS.split(key(label))
    return flat in _PERHAPS or (len(parts) > 1 and parts[-1] == "negative")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
