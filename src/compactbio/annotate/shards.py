"""How the inputs of a run are cut: into groups of whole files, and the documents of a group into shards.

A shard is what one process annotates and writes at once, and what is lost where it dies. The cut depends on the inputs
alone, so that a run can be resumed with another number of processes.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.formats import Reading, read_texts
from compactbio.formats.sources import visible
from compactbio.formats.streams import Rejected, rejected

# Shards that were cut in another way must not be resumed from: raise it when the cut changes.
CUT_VERSION = 2
SHARD_DOCUMENTS = 2048
_SHARD_CHARACTERS = 16_000_000
_GROUP_BYTES = 8 << 20  # smaller files are read together
_NAME = re.compile(r"(\d+)-(\d+)(\.last)?\.jsonl")

Entry = tuple[str, Document | Rejected]  # with the name of its file


@dataclass(frozen=True)
class FileGroup:
    """Files that one process reads, one after the other."""

    number: int
    files: tuple[Path, ...]
    bytes: int


class Shard(NamedTuple):
    """The number of a shard in its group, and whether it is the group's last one."""

    group: int
    number: int
    last: bool

    @property
    def file_name(self) -> str:
        """The name of its file; their order by name is that of the documents."""
        return f"{self.group:06}-{self.number:06}{'.last' if self.last else ''}.jsonl"


def group_files(files: Sequence[Path]) -> list[FileGroup]:
    """The files in groups, in their order."""
    groups: list[FileGroup] = []
    waiting: list[Path] = []
    size = 0
    for path in files:
        waiting.append(path)
        size += _size(path)
        if size >= _GROUP_BYTES:
            groups.append(FileGroup(len(groups), tuple(waiting), size))
            waiting, size = [], 0
    return [*groups, FileGroup(len(groups), tuple(waiting), size)] if waiting else groups


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in visible(path)) if path.is_dir() else path.stat().st_size


def read_entries(files: Sequence[Path], reading: Reading | None) -> Iterator[Entry]:
    """Every text of the files with its file's name; a file that is cut off or malformed ends with a rejection."""
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


def read_shards(
    group: FileGroup, reading: Reading | None, done: Collection[int] = ()
) -> Iterator[tuple[Shard, list[Entry]]]:
    """The shards of a group and their entries, but for the numbers in `done`, in one pass over its files.

    A group without any entry has one empty shard.
    """
    shards = _cut(read_entries(group.files, reading))
    number, entries = 0, next(shards, [])
    while True:
        following = next(shards, None)
        if number not in done:
            yield Shard(group.number, number, following is None), entries
        if following is None:
            return
        number, entries = number + 1, following


def _cut(found: Iterator[Entry]) -> Iterator[list[Entry]]:
    shard: list[Entry] = []
    size = 0
    for source, entry in found:
        shard.append((source, entry))
        size += len(entry.text) if isinstance(entry, Document) else 0
        if len(shard) == SHARD_DOCUMENTS or size >= _SHARD_CHARACTERS:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def batches_of(entries: Sequence[Entry], size: int) -> Iterator[Sequence[Entry]]:
    """A shard's entries in batches of `size`, which are annotated together; one empty batch of an empty shard."""
    return (entries[at : at + size] for at in range(0, max(len(entries), 1), size))


class FinishedShards:
    """The shards whose files a folder holds; `files` in the order of the documents."""

    def __init__(self, folder: Path) -> None:
        self._numbers: dict[int, set[int]] = {}
        self._last: dict[int, int] = {}
        self.files = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
        for path in self.files:
            match = _NAME.fullmatch(path.name)
            assert match is not None
            group, number = int(match[1]), int(match[2])
            self._numbers.setdefault(group, set()).add(number)
            if match[3]:
                self._last[group] = number

    def of(self, group: FileGroup) -> frozenset[int]:
        """The numbers of a group's finished shards."""
        return frozenset(self._numbers.get(group.number, ()))

    def complete(self, group: FileGroup) -> bool:
        """Whether all shards of a group are finished, so that it need not be read again."""
        return len(self.of(group)) == self._last.get(group.number, -2) + 1
