"""One source to one finished part: parsed, tokenised, written whole or not at all."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from compactbio.corpus import rows
from compactbio.corpus.fingerprints import Source
from compactbio.corpus.settings import RowSettings
from compactbio.documents import Citation, Deletion
from compactbio.formats import Rejected, SourceError, kind, read_citations
from compactbio.records import atomic, hashes

# A part made by other code than this must not be used again: raise it when the rows of a citation change.
PART_VERSION = 3
EXAMPLES = 5
_BATCH = 512


@dataclass(frozen=True)
class Task:
    """A source to make a part of, in the folder of parts."""

    source: Source
    settings: RowSettings
    tokenizer: Path  # the tokenizer.json
    folder: Path

    @property
    def stem(self) -> str:
        """The part's file name without extension: the same source under the same settings has the same."""
        return hashes.of_value([PART_VERSION, self.source.name, self.source.sha256, asdict(self.settings)])


@dataclass
class Tally:
    """What a source held beside its citations."""

    format: str = ""
    records: int = 0
    rejected: dict[str, int] = field(default_factory=dict)  # by reason
    examples: list[dict[str, str]] = field(default_factory=list)
    deletions: list[str] = field(default_factory=list)
    pieces: int = 0
    unknown: int = 0  # pieces that stand for what the vocabulary lacks


@dataclass(frozen=True)
class Part:
    """A finished part, or with `problem` the reason why its source gives none."""

    source: Source
    table: Path
    tally: Tally
    problem: str | None = None


def finished(task: Task) -> Part | None:
    """The part of a task that an earlier run has finished, or None."""
    note = task.folder / f"{task.stem}.json"
    if not note.exists():
        return None
    tally: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return Part(task.source, _table(task), Tally(**tally))


def make(task: Task) -> Part:
    """Read a source and write its part. A source that is not whole gives a part with a problem and no file.

    Raises OSError where the part cannot be written.
    """
    tally = Tally()
    try:
        tally.format = kind(task.source.path)
        entries = read_citations(task.source.path, tally.format)
        with atomic.file(_table(task)) as partial:
            _write(partial, _citations(entries, tally), task, tally)
    except SourceError as error:
        return Part(task.source, _table(task), tally, str(error))
    atomic.write_json(task.folder / f"{task.stem}.json", asdict(tally))
    return Part(task.source, _table(task), tally)


def _table(task: Task) -> Path:
    return task.folder / f"{task.stem}.arrow"


def _write(path: Path, citations: Iterator[Citation], task: Task, tally: Tally) -> None:
    tokenizer = rows.cutting_tokenizer(task.tokenizer, task.settings.tokenizer_sha256, task.settings.max_length)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, rows.part_schema(task.settings.wide)) as writer:
        while batch := list(islice(citations, _BATCH)):
            table = rows.part_table(batch, tokenizer, task.settings)
            pieces, unknown = rows.unknown_share(table, task.settings.unknown)
            tally.pieces, tally.unknown = tally.pieces + pieces, tally.unknown + unknown
            writer.write_batch(table)


def _citations(entries: Iterable[Citation | Deletion | Rejected], tally: Tally) -> Iterator[Citation]:
    """The citations among the entries; the rest goes to the tally."""
    for entry in entries:
        if isinstance(entry, Deletion):
            tally.deletions.append(entry.pmid)
            continue
        tally.records += 1
        if isinstance(entry, Citation):
            yield entry
            continue
        tally.rejected[entry.reason] = tally.rejected.get(entry.reason, 0) + 1
        if len(tally.examples) < EXAMPLES:
            tally.examples.append({"place": entry.place, "reason": entry.reason})
