"""What a run is cut into: units of whole files, each read once, and parts of the documents of a unit.

The cut depends on the inputs alone, not on who makes which part, so that the output does not either. A finished part is
a file `UNIT-NUMBER.jsonl` in the run's folder of parts, the last one of a unit `UNIT-NUMBER.last.jsonl`.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.formats.problems import Rejected, rejected
from compactbio.formats.sources import visible
from compactbio.formats.texts import Reading, read_texts

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
