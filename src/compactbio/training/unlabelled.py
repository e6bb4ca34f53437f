"""Unlabelled texts for a student to learn from its teachers: which of them, and their rows as Arrow files."""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compactbio import formats
from compactbio.documents import Document
from compactbio.documents.words import has_surrogates, sentences, without_surrogates
from compactbio.errors import UserError
from compactbio.files import value_digest
from compactbio.modeling.packing import NO_LABEL, Row, SoftLabels
from compactbio.tasks import units
from compactbio.tasks.settings import Settings
from compactbio.training import array_files, soft_labels

# Files of rows that are mapped at once; Linux allows a process 65,530 mappings.
_MAPPED = 16_384
# Characters, blanks not counted, from which on a sentence says where it is from.
_OWN_SENTENCE = 40
# The id of a text that has none: its file's name and its number there.
_NUMBERED = re.compile(r".*:[0-9]+", re.DOTALL)


@dataclass(frozen=True)
class HeldOut:
    """What is known of the documents that a student is scored on: their ids, and their texts and sentences."""

    ids: frozenset[str]
    texts: frozenset[str]

    @classmethod
    def of(cls, task: str, documents: Sequence[Document]) -> "HeldOut":
        """What is known of some documents."""
        return cls(
            frozenset(name for document in documents for name in _names(task, document)),
            frozenset(text for document in documents for text in _texts(document)),
        )

    @cached_property
    def digest(self) -> str:
        """A fingerprint of what is known."""
        return value_digest([sorted(self.ids), sorted(self.texts)])

    def why(self, task: str, document: Document) -> str:
        """Why a document is one of them, "id" or "text"; "" where it is not."""
        if not self.ids.isdisjoint(_names(task, document)):
            return "id"
        return "" if self.texts.isdisjoint(_texts(document)) else "text"

    def holds_text(self, document: Document) -> bool:
        """Whether a document is one of them by a text that is long enough to say where it is from; data sets of
        different origin may number their documents alike."""
        return len(_key(document.text)) >= _OWN_SENTENCE and not self.texts.isdisjoint(_texts(document))


def _names(task: str, document: Document) -> list[str]:
    """The ids by which a document is known elsewhere: those of its questions, or its own where it is not a number of a
    line or sentence in its file."""
    if task == "qa":
        return [question.id for question in document.questions if question.id]
    counted = document.tokenised or (task == "relation" and document.id.isdigit())
    return [] if counted or not document.id or _NUMBERED.fullmatch(document.id) else [document.id]


def _texts(document: Document) -> list[str]:
    """A document's text and its longer sentences, without case and blanks, which tokenised texts have elsewhere."""
    parts = [_key(document.text[start:end]) for start, end in sentences(document.text, document.passages)]
    return [_key(document.text), *(part for part in parts if len(part) >= _OWN_SENTENCE)]


def _key(text: str) -> str:
    return "".join(text.split()).casefold()


@dataclass(frozen=True)
class Texts:
    """Files of texts, except for those that are held out."""

    files: tuple[Path, ...]
    folders: tuple[Path, ...]  # in which they were found
    task: str
    held_out: HeldOut

    def chunks(self) -> Iterator[list[Document]]:
        """The documents in the lists in which teachers compute them; none has documents of two files."""
        for path in self.files:
            yield from soft_labels.chunks(replace(self, files=(path,)).documents())

    def documents(self, counts: Counter[str] | None = None) -> Iterator[Document]:
        """The documents to learn from, read one at a time; what is left out is added to `counts`.

        Raises UserError for a file that is not whole or malformed as a whole.
        """
        counts = Counter() if counts is None else counts
        for path in self.files:
            for document in formats.read_texts(path):
                counts["read"] += 1
                if not isinstance(document, Document):
                    counts["rejected"] += 1
                elif why := self.held_out.why(self.task, document):
                    counts[f"excluded by {why}"] += 1
                elif not units.has_units(self.task, document):
                    counts["without anything for the task"] += 1
                else:
                    counts["used"] += 1
                    yield _readable(document)


def _readable(document: Document) -> Document:
    """The document without the halves of surrogate pairs, which no tokenizer takes."""
    if not any(map(has_surrogates, [document.text, *(question.text for question in document.questions)])):
        return document
    questions = tuple(replace(question, text=without_surrogates(question.text)) for question in document.questions)
    return replace(document, text=without_surrogates(document.text), questions=questions)


_UNITS = {"ner": "a word", "relation": "a marked pair", "qa": "a question with a passage"}


def count(texts: Texts) -> Counter[str]:
    """How many documents there are, and how many are left out and why. Raises UserError where none is left."""
    counts = Counter[str]()
    for _ in texts.documents(counts):
        pass
    if not counts["used"]:
        out = ", ".join(f"{number:,} {what}" for what, number in counts.items() if what != "read") or "all are empty"
        reasons = Counter(
            one.reason for path in texts.files for one in formats.read_texts(path) if not isinstance(one, Document)
        )
        out += "".join(f", most for {reason}" for reason, _ in reasons.most_common(1))
        raise UserError(
            f"The unlabelled texts have nothing to learn from ({counts['read']:,} documents read: {out}): name texts "
            f"with {_UNITS[texts.task]} that are not in the test or devel split.",
            setting="unlabelled",
        )
    return counts


def check(files: Sequence[Path], task: str) -> None:
    """Raise UserError where texts have nothing for a task; they are read up to the first that has."""
    texts = Texts(tuple(files), (), task, HeldOut.of(task, []))
    if next(texts.documents(), None) is None:
        count(texts)


# -- rows


@dataclass(frozen=True)
class RowWriter:
    """Makes a student's rows of chunks of documents, and writes each chunk's to a file of its own in `folder`.

    Attributes:
        rows: documents to the student's rows with soft labels.
        nothing: the columns that stand for no mention or relation.
        owner: the digest of all that the rows depend on, except for the documents.
    """

    folder: Path
    task: str
    rows: Callable[[Sequence[Document]], list[Row]]
    nothing: frozenset[int]
    owner: str

    def path(self, number: int) -> Path:
        """The file of a chunk."""
        return self.folder / f"{number:07d}.arrow"

    def write(self, number: int, documents: Sequence[Document]) -> None:
        """Write the rows of a chunk, where it is not there already."""
        path = self.path(number)
        if not path.exists():
            kept = [row for row in self.rows(documents) if row.soft is not None and len(row.soft.targets)]
            array_files.write(path, self._columns(kept), self.owner)

    def _columns(self, rows: Sequence[Row]) -> dict[str, list[NDArray[Any]]]:
        soft = [row.soft for row in rows if row.soft is not None]
        none = np.empty(0, dtype=np.int8)
        return {
            "input_ids": [row.input_ids.astype(np.int32) for row in rows],
            "segments": [none if row.segments is None else row.segments.astype(np.int8) for row in rows],
            "pieces": [one.pieces.astype(np.int32) for one in soft],
            "units": [one.units.astype(np.int32) for one in soft],
            "targets": [one.targets.astype(np.float16).ravel() for one in soft],
            "facts": [self._facts(one.targets) for one in soft],
        }

    def _facts(self, targets: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean entropy of a row's units, and 1 where the teachers find something in it, else 0."""
        along = 0 if self.task == "qa" else 1
        entropy = -(targets * np.log(np.maximum(targets, np.finfo(np.float32).tiny))).sum(along).mean()
        best = targets.argmax(along)
        finds = best[0] != len(targets) - 1 if self.task == "qa" else any(i not in self.nothing for i in best.tolist())
        return np.array([entropy, finds], dtype=np.float32)


class StoredRows:
    """The rows in the files of a RowWriter, memory-mapped and made as they are asked for.

    Attributes:
        facts: as of RowWriter for each row, (rows, 2).
    """

    def __init__(self, writer: RowWriter, files: int) -> None:
        self._writer = writer
        # Views of the mapped files, which are sliced a hundred times as fast as tables are.
        self._columns = lru_cache(_MAPPED)(self._mapped)
        # Copies, as a view would keep its file mapped.
        facts = [self._columns(number)["facts"][0].reshape(-1, 2).copy() for number in range(files)]
        self.facts = np.concatenate(facts)
        self._ends = np.cumsum([len(rows) for rows in facts]).tolist()

    def _mapped(self, number: int) -> array_files.Columns:
        """The columns of a file."""
        return array_files.columns_of(array_files.read(self._writer.path(number), self._writer.owner, "this run"))

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, place: int) -> Row:
        number = bisect_right(self._ends, place)
        at = place - (self._ends[number - 1] if number else 0)
        found = {name: values[ends[at] : ends[at + 1]] for name, (values, ends) in self._columns(number).items()}
        names = ("input_ids", "segments", "pieces", "units")
        ids, segments, pieces, units_of = (found[name].astype(np.int64) for name in names)
        values = found["targets"].astype(np.float32).reshape(int(units_of.max()) + 1, -1)
        # Rounded to half precision, they no longer have the sum 1.
        targets = values / values.sum(0 if self._writer.task == "qa" else 1, keepdims=True)
        labels = np.full(len(ids), NO_LABEL)
        return Row(ids, labels, segments if len(segments) else None, SoftLabels(pieces, units_of, targets))


def choose(facts: NDArray[np.float32], settings: Settings) -> NDArray[np.int64]:
    """The places of the unlabelled rows to train on, in order: all, or the sample that the settings state.

    Args:
        facts: of each row the teachers' uncertainty, and whether they find something in it, (rows, 2).
        settings: `sample` rows, of them the share `sample_mentions` with something found, as far as there are so many;
            by chance from the run's seed or the most uncertain first (`sample_by`).
    """
    rows = len(facts)
    if settings.sample is None or settings.sample >= rows:
        return np.arange(rows)
    drawn = np.random.default_rng(settings.seed).permutation(rows)
    if settings.sample_by == "uncertainty":
        drawn = drawn[np.argsort(-facts[drawn, 0], kind="stable")]
    if settings.sample_mentions is not None:
        found = facts[drawn, 1] > 0
        with_some, without = drawn[found], drawn[~found]
        some = min(round(settings.sample * settings.sample_mentions), len(with_some))
        rest = min(settings.sample - some, len(without))
        drawn = np.concatenate([with_some[: settings.sample - rest], without[:rest]])
    return np.sort(drawn[: settings.sample])
