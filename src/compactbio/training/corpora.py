"""What a model is fine-tuned on: one data set, or several that are each labelled for their own types of mentions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compactbio.documents import Document, names
from compactbio.documents.names import mention_types
from compactbio.documents.tags import parse, tagged_types
from compactbio.documents.words import RULES
from compactbio.errors import UserError
from compactbio.formats.checks import counting_left_out
from compactbio.formats.sources import empty_splits
from compactbio.tasks import data as datasets
from compactbio.tasks import ner
from compactbio.tasks.data import Data, Split
from compactbio.tasks.ner_encoding import Encoded
from compactbio.tasks.outcome import counted, listed
from compactbio.tasks.relation import label_of
from compactbio.training.unlabelled import HeldOut

TRAIN_ON = ("train", "train+devel")


@dataclass(frozen=True)
class Corpus:
    """A data set with its documents to train on and those to choose the best epoch by.

    `types` are those of the mentions that it is labelled for, none for other tasks.
    """

    data: Data
    train: tuple[Document, ...]
    devel: tuple[Document, ...]
    types: frozenset[str]

    def record(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed, as a JSON value."""
        data = self.data
        raw = data.task == "ner" and not all(document.tokenised for document in (*self.train, *self.devel))
        used = {key: value for key, value in data.digests.items() if key in ("train", "devel")}
        named = {key: value for key, value in {"format": data.format, "type": data.type}.items() if value}
        rules = {"rules_of_words": RULES} if raw else {}
        return {"name": data.name, "single": data.single, **used, **named, **rules}


@dataclass(frozen=True)
class Corpora:
    """One data set or several, with the documents of all in the order of the data sets.

    `notes` are sentences on what was left out or joined.
    """

    parts: tuple[Corpus, ...]
    train_on: str
    notes: tuple[str, ...] = ()

    @property
    def task(self) -> str:
        return self.parts[0].data.task

    @property
    def name(self) -> str:
        return ", ".join(part.data.name for part in self.parts)

    @property
    def train(self) -> list[Document]:
        return [document for part in self.parts for document in part.train]

    def record(self) -> dict[str, Any]:
        """What must be the same for a run to be resumed, as a JSON value."""
        if len(self.parts) == 1:
            return self.parts[0].record()
        # A test split decides which documents of the other data sets are trained on.
        corpora = [
            {**part.record(), "types": sorted(part.types), "test": part.data.digests.get("test")} for part in self.parts
        ]
        return {"name": self.name, "single": False, "corpora": corpora}

    def labelled_apart(self, labels: Sequence[str]) -> bool:
        """Whether a data set is not labelled for all types of mentions that a model's labels name."""
        every = tagged_types(labels)
        return not all(every <= part.types for part in self.parts)

    def held_out(self) -> HeldOut:
        """What is known of the documents that are not trained on."""
        return HeldOut.of(self.task, [d for part in self.parts for d in _not_trained_on(part.data, self.train_on)])


def read(
    data: str | Path | Mapping[str, str | Path] | Sequence[str | Path],
    task: str | None,
    name: str | None,
    *,
    format: str | None,
    train_on: str,
) -> Corpora:
    """Find and read data sets; the arguments are those of `finetuning.finetune`.

    Types whose names differ only in case are one type. Of several data sets, training documents are left out that
    another one holds in its devel or test split.

    Raises UserError as `tasks.data.find_all` does, for data that hold nothing to learn from, and where mentions of
    several data sets have no type.
    """
    if train_on not in TRAIN_ON:
        raise UserError(f"Train on {' or '.join(TRAIN_ON)}, not {train_on!r}.", setting="train_on")
    found = datasets.find_all(data, task, name, format=format)
    with counting_left_out() as left_out:
        parts = tuple(_read(part, train_on) for part in found)
    for part in parts:
        _check_trains(part)
    if found[0].task == "ner":
        parts, joined = _spelt_alike(parts)
        parts, named = _all_typed(parts)
        left_out += [*joined, *named]
    left_out += [
        f"{part.data.name}: {path.name} is empty, and taken for no split."
        for part in parts
        if part.data.folder and not part.data.single
        for path in empty_splits(part.data.folder)
    ]
    if len(parts) == 1:
        return Corpora(parts, train_on, tuple(left_out))
    for part in parts:
        if "" in part.types:
            raise UserError(
                f"{part.data.name}: its mentions have no type, which several data sets need: name it, as in "
                f"Disease={part.data.name}."
            )
    parts, excluded = _without_held_out(parts, train_on)
    without = [part.data.name for part in parts if not part.devel]
    unused = [f"{name} has no devel split, so it has no part in choosing the epoch." for name in without]
    return Corpora(parts, train_on, (*left_out, *excluded, *(unused if len(unused) < len(parts) else ())))


def _read(data: Data, train_on: str) -> Corpus:
    train = data.read("train") + (data.read("devel") if train_on == "train+devel" else [])
    devel = data.read("devel") if train_on == "train" and "devel" in data.files else []
    if devel and not data.scorable(devel):
        if not data.single:
            data.check_answers(devel, "devel")
            what = "mention" if data.task == "ner" else "relation"
            raise UserError(
                f"{data.name}: its devel split has no {what} to choose an epoch by; correct it, or leave it out."
            )
        devel = []  # the tenth of a small file
    return Corpus(data, tuple(train), tuple(devel), mention_types((*train, *devel)))


def _not_trained_on(data: Data, train_on: str) -> list[Document]:
    trained = ("train", "devel") if train_on == "train+devel" else ("train",)
    splits: list[Split] = [split for split in data.files if split not in trained]
    return [document for split in splits for document in data.read(split)]


def _check_trains(part: Corpus) -> None:
    """Refuse data that hold nothing of the task."""
    task, train = part.data.task, part.train
    counts = datasets.count(train)
    lacks = {
        "ner": "mention" if not counts.get("mentions") else "",
        "relation": "second class" if task == "relation" and len(set(map(label_of, train))) < 2 else "",
        "qa": "question with an answer" if not any(q.answers for d in train for q in d.questions) else "",
    }[task]
    if lacks:
        described = ", ".join(f"{number:,} {what}" for what, number in counts.items())
        raise UserError(f"{part.data.name}: its train split has no {lacks} to learn {task} from ({described}).")


def _spelt_alike(parts: tuple[Corpus, ...]) -> tuple[tuple[Corpus, ...], tuple[str, ...]]:
    """The data sets with each type in one spelling, its most frequent one, and sentences on those that had several."""
    every = [kind for part in parts for kind in names.types((*part.train, *part.devel))]
    spelt = names.spellings(every)
    other = sorted(kind for kind in set(every) if spelt[names.key(kind)] != kind)
    if not other:
        return parts, ()
    notes = tuple(f"{kind} and {spelt[names.key(kind)]} are one type, {spelt[names.key(kind)]}." for kind in other)
    alike = []
    for part in parts:
        train, devel = (tuple(names.unified(side, spelt)) for side in (part.train, part.devel))
        alike.append(Corpus(part.data, train, devel, mention_types((*train, *devel))))
    return tuple(alike), notes


def _all_typed(parts: tuple[Corpus, ...]) -> tuple[tuple[Corpus, ...], tuple[str, ...]]:
    """The data sets with the mentions that have no type given the only type of the others, and sentences on those.

    Raises UserError where the others have several types: such a mention would be one of a type of its own.
    """
    typed, notes = [], []
    for part in parts:
        kinds = part.types - {""}
        if "" not in part.types or not kinds:
            typed.append(part)
            continue
        found = [span.type for document in (*part.train, *part.devel) for span in document.spans]
        without = f"{found.count(''):,} of the {len(found):,} mentions in its train and devel splits have no type"
        if len(kinds) > 1:
            raise UserError(
                f"{part.data.name}: {without}, the others are of {listed(kinds)}: give each its type, as in "
                f"B-{min(kinds)}, or leave out all types."
            )
        [kind] = kinds
        train, devel = (tuple(ner.with_type(side, kind)) for side in (part.train, part.devel))
        typed.append(Corpus(part.data, train, devel, frozenset(kinds)))
        notes.append(f"{part.data.name}: {without}; they are taken for {kind}, the type of all others.")
    return tuple(typed), tuple(notes)


def _without_held_out(parts: tuple[Corpus, ...], train_on: str) -> tuple[tuple[Corpus, ...], tuple[str, ...]]:
    """The data sets without training documents that another one is scored on; its own repeats stay, as published.

    Raises UserError where nothing of a type is left to learn from.
    """
    held = [HeldOut.of("ner", _not_trained_on(part.data, train_on)) for part in parts]
    kept, counts = [], {}
    for part in parts:
        others = [known for other, known in zip(parts, held, strict=True) if other is not part]
        train = tuple(d for d in part.train if not any(known.holds_text(d) for known in others))
        if lost := mention_types(part.train) - mention_types(train):
            raise UserError(
                f"{part.data.name}: all its training documents with {listed(set(lost))} are in another data set's "
                "devel or test split, so nothing is left to learn from: leave one of the two out."
            )
        name = part.data.name
        what = f"training documents of {name} are left out, as another data set's devel or test split holds them"
        counts[what] = len(part.train) - len(train)
        kept.append(replace(part, train=train))
    return tuple(kept), counted(counts)


# -- labels of a corpus that is labelled for some of the types


def partly_labelled(encoded: Encoded, corpora: Corpora, labels: Sequence[str]) -> tuple[Encoded, Tensor | None]:
    """The rows of all training documents, in which `O` says what it means in each data set.

    Args:
        encoded: the documents `corpora.train` with ordinary labels.
        corpora: the data sets.
        labels: the model's, in the order of their ids.

    Returns the rows, and for each id of a label in them which of the model's labels it may stand for, (ids, labels);
    None, and the same rows, where each label stands for itself. In a data set that is not labelled for genes an `O` is
    a word of none of its own types, and maybe of a gene: such an `O` has an id of its own.
    """
    if not corpora.labelled_apart(labels):
        return encoded, None
    every = tagged_types(labels)
    allowed = torch.eye(len(labels), dtype=torch.bool)
    nothing = labels.index("O")
    ids = np.empty(sum(len(part.train) for part in corpora.parts), dtype=np.int64)
    start = 0
    for part in corpora.parts:
        partly = not every <= part.types
        ids[start : start + len(part.train)] = len(allowed) if partly else nothing
        start += len(part.train)
        if partly:
            own = [label == "O" or parse(label)[1] not in part.types for label in labels]
            allowed = torch.cat([allowed, torch.tensor([own])])
    windows = []
    for window in encoded.windows:
        none = ids[encoded.sentences[window.sentence].document]
        values = np.where(window.row.labels == nothing, none, window.row.labels)
        windows.append(replace(window, row=replace(window.row, labels=values)))
    return replace(encoded, windows=tuple(windows)), allowed
