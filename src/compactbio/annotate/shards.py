"""How a run over files is cut, and what its processes do: groups of whole files, shards of documents, batches.

A shard is what one process annotates and writes at once, and what is lost where it dies. The cut depends on the inputs
alone, so that a run can be resumed with another number of processes.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from compactbio import formats
from compactbio.annotate.annotator import Annotator, Entity, load_tagger
from compactbio.documents import Document, Span
from compactbio.documents.names import key
from compactbio.errors import UserError
from compactbio.files import write_text
from compactbio.formats import Reading, read_texts
from compactbio.formats.file_names import shown, standoff_texts
from compactbio.formats.json_lines import document_of, serialise
from compactbio.formats.streams import Rejected, rejected
from compactbio.modeling import hardware

# Raise it when the cut of inputs into shards or batches (on which int8 depends), the division of texts (`words.RULES`)
# or the form of a shard's file changes: shards of another must not be resumed from.
CUT_VERSION = 6
SHARD_DOCUMENTS = 2048
_SHARD_CHARACTERS = 16_000_000
_DOCUMENT_CHARACTERS = 2_000  # of a long abstract
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
    groups, waiting, size = list[FileGroup](), list[Path](), 0
    for path in files:
        waiting.append(path)
        size += sum(file.stat().st_size for file in (standoff_texts(path) if path.is_dir() else [path]))
        if size >= _GROUP_BYTES or path is files[-1]:
            groups.append(FileGroup(len(groups), tuple(waiting), size))
            waiting, size = [], 0
    return groups


def read_entries(files: Sequence[Path], reading: Reading | None) -> Iterator[Entry]:
    """Every text of the files with its file's name; a file that is cut off or malformed ends with a rejection."""
    for path in files:
        name, read = shown(path.name), 0
        try:
            for entry in read_texts(path, reading):
                yield name, entry
                read += 1
        except UserError as error:
            found = rejected(error, path)
            lost = f"; what follows its first {read:,} records is lost" if read else ""
            yield name, replace(found, reason=found.reason + lost)


def read_shards(
    group: FileGroup, reading: Reading | None, done: Collection[int] = ()
) -> Iterator[tuple[Shard, list[Entry]]]:
    """The shards of a group and their entries, except for the numbers in `done`, in one pass over its files.

    A group without any entry has one empty shard.
    """
    number, size, entries = 0, 0, list[Entry]()
    for source, entry in read_entries(group.files, reading):
        # A full one is given when it is known not to be the last.
        if len(entries) == SHARD_DOCUMENTS or size >= _SHARD_CHARACTERS:
            if number not in done:
                yield Shard(group.number, number, last=False), entries
            number, size, entries = number + 1, 0, []
        entries.append((source, entry))
        size += _characters(entries[-1])
    if number not in done:
        yield Shard(group.number, number, last=True), entries


def _characters(entry: Entry) -> int:
    return len(entry[1].text) if isinstance(entry[1], Document) else 0


def batches_of(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    """Entries in batches that are annotated together: `size` documents, or fewer long ones; one empty batch of none.

    Batches of long documents are as much work as others, so that processes share them and progress is seen.
    """
    batch, characters = list[Entry](), 0
    for entry in entries:
        if len(batch) == size or characters >= size * _DOCUMENT_CHARACTERS:
            yield batch
            batch, characters = [], 0
        batch.append(entry)
        characters += _characters(entry)
    yield batch


def shard_files(folder: Path) -> list[Path]:
    """The files of shards in a folder, in the order of the documents."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name)) if folder.exists() else []


class FinishedShards:
    """The shards that a folder holds; the file of one that is damaged is removed, so that it is made again.

    `documents` are those in them, `damaged` is the number of files that were removed.
    """

    def __init__(self, folder: Path) -> None:
        self.documents = self.damaged = 0
        self._numbers: dict[int, set[int]] = {}
        self._last: dict[int, int] = {}
        for path in shard_files(folder):
            count = _count(path)
            if count is None:
                path.unlink()
                self.damaged += 1
            elif match := _NAME.fullmatch(path.name):
                self.documents += count
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


@dataclass(frozen=True)
class Settings:
    """How documents are annotated."""

    models: tuple[str, ...]  # folders or hub names, or "TYPE=MODEL"
    runtimes: tuple[str, ...]  # of each model
    min_score: float  # the lowest score of an entity, in [0, 1]
    keep: bool  # whether the annotations that documents bring are kept
    threads: int  # of each worker
    workers: int  # processes
    batch_size: int = 128  # documents that are annotated together
    device: str = "auto"  # one of `hardware.DEVICES`
    gpus: tuple[str, ...] = ()  # what CUDA_VISIBLE_DEVICES names the GPUs that the workers share; none on the CPU
    min_precision: float | None = None  # the share of mentions that must be right, by type; None for any
    format: str = "jsonl"  # what cannot be written in it is set aside


@dataclass(frozen=True)
class Failure:
    """A document that was set aside: its file, its place there, and the reason, without its text."""

    source: str
    place: str
    reason: str

    def __str__(self) -> str:
        return f"{' '.join(filter(None, (self.source, self.place)))}: {self.reason}"


class Worker:
    """Annotates batches of documents with the models of a run."""

    def __init__(self, annotator: Annotator, settings: Settings) -> None:
        self._annotator, self._settings = annotator, settings

    def __call__(self, batch: Sequence[Entry]) -> list[Document | Failure]:
        """The entries, each with its file's name, annotated in their order; where all at once fail, each alone."""
        documents = [entry for _, entry in batch if isinstance(entry, Document)]
        try:
            annotated: Iterator[Document | str] = iter(self._annotate(documents))
        except Exception:
            annotated = (self._annotate_alone(document) for document in documents)
        result: list[Document | Failure] = []
        for source, entry in batch:
            if isinstance(entry, Rejected):
                result.append(Failure(source, entry.place, entry.reason))
            else:
                found = checked(next(annotated), self._settings.format)
                result.append(Failure(source, entry.id, found) if isinstance(found, str) else found)
        return result

    def _annotate_alone(self, document: Document) -> Document | str:
        try:
            return self._annotate([document])[0]
        except Exception as error:
            # The kind of an error can be printed; its words may hold the text.
            return f"could not be annotated ({type(error).__name__})"

    def _annotate(self, documents: Sequence[Document]) -> list[Document]:
        found = self._annotator(documents, min_score=self._settings.min_score)
        if not self._settings.keep:
            documents = [replace(one, spans=(), relations=(), questions=()) for one in documents]
        return [
            replace(document, spans=_joined(document.spans, entities), tokenised=False)
            for document, entities in zip(documents, found, strict=True)
        ]


def start_worker(number: int | None, settings: Settings) -> Worker:
    """Load the models in worker process `number`, on its own GPU where there are several; None: in this process."""
    if number is not None:
        hardware.take_gpu(number, settings.gpus)
    device, threads, precision = settings.device, settings.threads, settings.min_precision
    taggers = [
        load_tagger(model, runtime=runtime, device=device, threads=threads, min_precision=precision)
        for model, runtime in zip(settings.models, settings.runtimes, strict=True)
    ]
    return Worker(Annotator(taggers), settings)


def _joined(kept: tuple[Span, ...], entities: Sequence[Entity]) -> tuple[Span, ...]:
    """The kept mentions, and the entities that are none of them; types are compared without regard to case."""
    known = {(span.places, key(span.type)) for span in kept}
    # Four digits: what differs beyond them is the order of sums.
    found = (Span(one.start, one.end, one.type, score=round(one.score, 4)) for one in entities)
    return (*kept, *(span for span in found if (span.places, key(span.type)) not in known))


def checked(found: Document | str, format: str) -> Document | str:
    """An annotated document, or the reason why there is none or why it cannot be written in the format."""
    if isinstance(found, str):
        return found
    reason = formats.why_not_writable(found, format)
    return found if reason is None else reason.removeprefix(f"Document {found.id!r} ")


def write_shard(path: Path, lines: Sequence[str]) -> None:
    """Write the file of a shard: a line of `to_line` for each document, and one that tells whether these are whole."""
    text = "".join(lines)
    write_text(path, text + _end(path.name, text.encode()))


def read_shard(path: Path) -> Iterator[Document | Failure]:
    """The results in the file of a shard."""
    with path.open(encoding="utf-8") as file:
        for line, _ in pairwise(file):
            yield _from_line(json.loads(line))


def _count(path: Path) -> int | None:
    """How many documents the file of a shard holds; None for a file that is not as `write_shard` wrote it."""
    content = path.read_bytes()
    end = content.rfind(b"\n", 0, -1) + 1
    lines = content[:end]
    return lines.count(b"\n") if content[end:] == _end(path.name, lines).encode() else None


def _end(name: str, lines: bytes) -> str:
    """The last line of a shard's file, which is damaged under another name too."""
    return json.dumps({"sha256": hashlib.sha256(name.encode() + lines).hexdigest()}) + "\n"


def to_line(result: Document | Failure) -> str:
    """A result as one line of a shard's file."""
    return serialise(result) if isinstance(result, Document) else json.dumps({"failure": asdict(result)}) + "\n"


def _from_line(value: dict[str, Any]) -> Document | Failure:
    """What `to_line` wrote, of the line's JSON value."""
    return Failure(**value["failure"]) if "failure" in value else document_of(value)


def none_annotated(first: Failure | None) -> UserError:
    """The error of a run without a single annotated document; `first` is the first that was set aside."""
    why = f": {str(first).removesuffix('.')}" if first else ""
    return UserError(f"No document in the inputs could be annotated{why}.")
