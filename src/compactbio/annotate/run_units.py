"""A run of `annotate` in parts: units of whole files, parts of their documents, and what a process does with them."""

import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from compactbio import formats
from compactbio.annotate.annotator import Annotator, tagger
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.formats import Reading, read_texts
from compactbio.formats.checks import check_only
from compactbio.formats.json_lines import document_of, serialise
from compactbio.formats.sources import visible
from compactbio.formats.streams import Rejected, rejected

# Documents of a task, and of a part, which ends earlier where it has so many characters.
CHUNK, PART = 128, 2048
_CHARACTERS = 16_000_000
_UNIT = 8 << 20  # bytes; files smaller than that are read together
_NAME = re.compile(r"(\d+)-(\d+)(\.last)?\.jsonl")

Entry = tuple[str, Document | Rejected]  # with the name of the file that it stands in


@dataclass(frozen=True)
class Unit:
    """Files that are read together, one after the other, by one process."""

    number: int
    files: tuple[Path, ...]
    bytes: int


class Place(NamedTuple):
    """Which part of a unit something belongs to, and whether it is the unit's last one."""

    unit: int
    number: int
    last: bool

    @property
    def name(self) -> str:
        """The file of the part; their order by name is that of the documents."""
        return f"{self.unit:06}-{self.number:06}{'.last' if self.last else ''}.jsonl"


def units(files: Sequence[Path]) -> list[Unit]:
    """The files as units, in their order."""
    found: list[Unit] = []
    waiting: list[Path] = []
    size = 0
    for path in files:
        waiting.append(path)
        size += _size(path)
        if size >= _UNIT:
            found.append(Unit(len(found), tuple(waiting), size))
            waiting, size = [], 0
    return [*found, Unit(len(found), tuple(waiting), size)] if waiting else found


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in visible(path)) if path.is_dir() else path.stat().st_size


def entries(files: Sequence[Path], reading: Reading | None) -> Iterator[Entry]:
    """Every text of the files with its file's name; a file that is not whole or malformed ends with a rejection."""
    for path in files:
        read = 0
        try:
            for entry in read_texts(path, reading):
                yield path.name, entry
                read += 1
        except UserError as error:
            found = rejected(error, path)
            lost = f"; what follows its first {read:,} records is lost" if read else ""
            yield path.name, replace(found, reason=found.reason + lost)


def read(unit: Unit, reading: Reading | None, done: Collection[int] = ()) -> Iterator[tuple[Place, list[Entry]]]:
    """The parts of a unit, but for those numbered as `done`, in one pass over its files. A unit has one at least."""
    batches = _batches(entries(unit.files, reading))
    number, batch = 0, next(batches, [])
    while True:
        following = next(batches, None)
        if number not in done:
            yield Place(unit.number, number, following is None), batch
        if following is None:
            return
        number, batch = number + 1, following


def _batches(found: Iterator[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for source, entry in found:
        batch.append((source, entry))
        size += len(entry.text) if isinstance(entry, Document) else 0
        if len(batch) == PART or size >= _CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def chunks(part: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """A part's entries as they are annotated together; one empty chunk of an empty part."""
    return (part[at : at + CHUNK] for at in range(0, max(len(part), 1), CHUNK))


class Finished:
    """The parts that a folder holds."""

    def __init__(self, folder: Path) -> None:
        self._numbers: dict[int, set[int]] = {}
        self._lasts: dict[int, int] = {}
        self.files = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
        for path in self.files:
            match = _NAME.fullmatch(path.name)
            assert match is not None
            unit, number = int(match[1]), int(match[2])
            self._numbers.setdefault(unit, set()).add(number)
            if match[3]:
                self._lasts[unit] = number

    def of(self, unit: Unit) -> frozenset[int]:
        """The numbers of a unit's finished parts."""
        return frozenset(self._numbers.get(unit.number, ()))

    def whole(self, unit: Unit) -> bool:
        """Whether all parts of a unit are finished, so that it need not be read again."""
        return len(self.of(unit)) == self._lasts.get(unit.number, -2) + 1


@dataclass(frozen=True)
class Settings:
    """How documents are annotated: `runtimes` are those of the models, in their order; `threads` each worker's.

    `devices` are what CUDA_VISIBLE_DEVICES names the GPUs that the workers share out among them, none for the CPU.
    """

    models: tuple[str, ...]
    runtimes: tuple[str, ...]
    min_score: float
    keep: bool
    threads: int
    workers: int
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """A document that was set aside: where it stands and why, without its text."""

    source: str
    place: str
    reason: str


class Worker:
    """Annotates chunks with the models of a run."""

    def __init__(self, annotator: Annotator, settings: Settings) -> None:
        self._annotator, self._settings = annotator, settings

    def __call__(self, some: Sequence[tuple[str, Document | Rejected]]) -> list[Document | Failure]:
        """The entries, each with its file's name, annotated in their order; where all at once fail, each alone."""
        documents = [entry for _, entry in some if isinstance(entry, Document)]
        try:
            found: Iterator[Document | str] = iter(self._annotated(documents))
        except Exception:
            found = (self._alone(document) for document in documents)
        result: list[Document | Failure] = []
        for source, entry in some:
            if isinstance(entry, Rejected):
                result.append(Failure(source, entry.place, entry.reason))
                continue
            one = next(found)
            result.append(Failure(source, entry.id, one) if isinstance(one, str) else one)
        return result

    def _alone(self, document: Document) -> Document | str:
        try:
            return self._annotated([document])[0]
        except Exception as error:
            # The kind of an error is safe to tell; its words may hold the text.
            return f"could not be annotated ({type(error).__name__})"

    def _annotated(self, documents: Sequence[Document]) -> list[Document]:
        keep = self._settings.keep
        found = self._annotator(documents, min_score=self._settings.min_score)
        return [
            replace(
                document,
                spans=(*(document.spans if keep else ()), *(_span(e.start, e.end, e.type, e.score) for e in own)),
                relations=document.relations if keep else (),
                questions=document.questions if keep else (),
                tokenised=False,
            )
            for document, own in zip(documents, found, strict=True)
        ]


def start(number: int | None, settings: Settings) -> Worker:
    """Load the models, in worker process `number` on its own GPU where there are several."""
    if number is not None and settings.devices:
        # Read when PyTorch first looks for GPUs, which a new process has not done yet.
        os.environ["CUDA_VISIBLE_DEVICES"] = settings.devices[number % len(settings.devices)]
    taggers = [
        tagger(model, runtime, settings.threads)
        for model, runtime in zip(settings.models, settings.runtimes, strict=True)
    ]
    return Worker(Annotator(taggers), settings)


def _span(start: int, end: int, kind: str, score: float) -> Span:
    # Four digits: what differs beyond them is the order of sums.
    return Span(start, end, kind, score=round(score, 4))


def none_annotated(first: Failure | None) -> UserError:
    """The error of a run without a single annotated document; `first` is the first that was set aside."""
    why = f": {' '.join(filter(None, (first.source, first.place)))}: {first.reason}" if first else ""
    return UserError(f"No document in the inputs could be annotated{why}.")


def sayable(one: Document | Failure, format: str) -> Document | Failure:
    """The same; of a document that the format cannot say, the failure that it is."""
    if isinstance(one, Failure):
        return one
    reason = formats.why_not_writable(one, "jsonl" if format == "parquet" else format)
    if reason is None and format == "parquet":
        reason = _beyond_a_table(one)
    return one if reason is None else Failure("", one.id, reason.removeprefix(f"Document {one.id!r} "))


def _beyond_a_table(document: Document) -> str | None:
    try:
        check_only(document, "parquet", "mentions")
    except UserError as error:
        return str(error)
    return None


def line(one: Document | Failure, format: str) -> str:
    """One line of a part; a document that the format cannot say becomes a failure."""
    one = sayable(one, format)
    return serialise(one) if isinstance(one, Document) else json.dumps({"failure": asdict(one)}) + "\n"


def read_line(value: dict[str, Any]) -> Document | Failure:
    if "failure" in value:
        return Failure(**value["failure"])
    return document_of(value)
