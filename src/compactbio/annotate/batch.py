"""Many documents to one annotated file: in several processes, in flat memory, resumed where a run was killed.

Beside the output `OUT` stand `OUT.run.json` (what the run was made of, counts) and, where documents could not be
annotated or written, `OUT.failed.jsonl` with their places and reasons. While it runs `.OUT.parts` holds finished parts.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compactbio import formats
from compactbio.annotate import cluster, pool, work
from compactbio.annotate.opening import parted
from compactbio.corpus.progress import Listener, Silent
from compactbio.deploy import choosing, runtimes
from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.formats.problems import Rejected
from compactbio.records import atomic, hashes
from compactbio.training import hardware
from compactbio.training.loading import Source

FORMATS = ("jsonl", "parquet", "bioc", "pubtator", "brat")
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".xml": "bioc", ".pubtator": "pubtator"}
_QUICK = 30_000_000  # bytes of input that are counted beforehand
_SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "text": pa.string(),
        "entities": pa.list_(
            pa.struct(
                {
                    "start": pa.int64(),
                    "end": pa.int64(),
                    "text": pa.string(),
                    "type": pa.string(),
                    "identifier": pa.string(),
                    "score": pa.float64(),
                }
            )
        ),
    }
)


@dataclass(frozen=True)
class Annotated:
    """What a run came to; `state` is "finished" or "already finished"."""

    state: str
    out: str
    format: str
    documents: int
    entities: dict[str, int]
    failed: int
    runtimes: dict[str, str]


def annotate(
    models: Sequence[str],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    format: str | None = None,
    text_field: str | None = None,
    min_score: float = 0.0,
    keep: bool = False,
    runtime: str = "auto",
    workers: int | None = None,
    on_cluster: bool = False,
    listener: Listener | None = None,
) -> Annotated:
    """Annotate all documents of the inputs (see `formats.texts.read_texts`) with the models, into the file `out`.

    `format` is one of FORMATS, by default by the suffix of `out`. Annotations that documents bring are dropped unless
    `keep`. `workers` are processes, by default one a core; `on_cluster` has them run on the Ray cluster that
    RAY_ADDRESS names, or on a local one, where every machine must see the same files. A run that was killed goes on
    when it is called again with the same arguments, and gives the same file; a finished one is left alone. Raises
    UserError for whatever the user can mend, OSError where `out` cannot be written.
    """
    listener, out = listener or Silent(), Path(out)
    chosen = _format(out, format)
    files = find(inputs)
    sources = [runtimes.find(parted(model)[1]) for model in models]
    settings = _settled(models, sources, min_score, runtime, workers, listener, keep=keep)
    run = _Run(out, chosen, files, text_field, settings, listener, on_cluster)
    names = settings.runtimes
    identity = run.identity([runtimes.digest(*one) for one in zip(sources, names, strict=True)])
    return run.finished(identity) or run.make(identity)


def stream(
    models: Sequence[str],
    inputs: Sequence[str | Path],
    *,
    text_field: str | None = None,
    min_score: float = 0.0,
    keep: bool = False,
    runtime: str = "auto",
    workers: int | None = None,
    listener: Listener | None = None,
) -> Iterator[Document | work.Failure]:
    """The same documents one by one as they are ready, in their order; nothing is written or kept."""
    files = find(inputs)
    sources = [runtimes.find(parted(model)[1]) for model in models]
    settings = _settled(models, sources, min_score, runtime, workers, listener or Silent(), keep=keep)
    return _results(work.entries(files, text_field), settings)


def _settled(
    models: Sequence[str],
    sources: Sequence[Source],
    min_score: float,
    runtime: str,
    workers: int | None,
    listener: Listener,
    *,
    keep: bool,
) -> work.Settings:
    cores = hardware.cores()
    count = cores if workers is None else workers
    if count < 1:
        raise UserError(f"--workers {count}: must be 1 or more.")
    threads = max(1, cores // count)
    if runtime == "auto" and any(len(runtimes.available(source)) > 1 for source in sources):
        listener.note("Choosing the fastest runtime ...")
    names = tuple(choosing.fastest(source, threads) if runtime == "auto" else runtime for source in sources)
    return work.Settings(tuple(models), names, min_score, keep, threads, count)


def find(inputs: Sequence[str | Path]) -> list[Path]:
    """The files that the inputs name, and BRAT folders. Raises UserError as `formats.find` does."""
    found: list[Path] = []
    for name in inputs:
        path = Path(name)
        if path.is_dir() and any(path.glob("*.txt")) and not any(path.glob("*.jsonl*")):
            found.append(path)
        else:
            found += formats.find([name])
    return list(dict.fromkeys(found))


def _format(out: Path, format: str | None) -> str:
    if format is not None:
        if format not in FORMATS:
            raise UserError(f"{format!r} is no format to annotate to: take {', '.join(FORMATS)}.")
        return format
    known = _BY_SUFFIX.get(out.suffix.lower())
    if known is None:
        raise UserError(
            f"{out}: its name shows no format; name it {', '.join(_BY_SUFFIX)}, or say --format {', '.join(FORMATS)}."
        )
    return known


def _results(
    entries: Iterator[tuple[str, Document | Rejected]], settings: work.Settings
) -> Iterator[Document | work.Failure]:
    chunks = iter(lambda: list(islice(entries, work.CHUNK)), [])
    for chunk in pool.ordered(work.chunk, chunks, settings.workers, work.prepare, settings):
        yield from chunk


class _Reading:
    """The texts of files as they are read, and how many there are in all: counted where that is quick, else estimated
    from the files that were read, 0 before the first was."""

    def __init__(self, files: Sequence[Path], text_field: str | None) -> None:
        self._files, self._field = files, text_field
        self._sizes = [path.stat().st_size if path.is_file() else 0 for path in files]
        self._read = self._bytes = 0
        quick = sum(self._sizes) < _QUICK
        self._known = sum(1 for _ in work.entries(files, text_field)) if quick else 0

    def __iter__(self) -> Iterator[tuple[str, Document | Rejected]]:
        for path, size in zip(self._files, self._sizes, strict=True):
            for entry in work.entries([path], self._field):
                self._read += 1
                yield entry
            self._bytes += size

    def total(self) -> int:
        """The number of texts, as far as it is known."""
        return self._known or (round(self._read * sum(self._sizes) / self._bytes) if self._bytes else 0)


@dataclass(frozen=True)
class _Run:
    out: Path
    format: str
    files: Sequence[Path]
    text_field: str | None
    settings: work.Settings
    listener: Listener
    on_cluster: bool

    @property
    def record(self) -> Path:
        return self.out.with_name(f"{self.out.name}.run.json")

    @property
    def failures(self) -> Path:
        return self.out.with_name(f"{self.out.name}.failed.jsonl")

    @property
    def parts(self) -> Path:
        return self.out.with_name(f".{self.out.name}.parts")

    def identity(self, models: Sequence[str]) -> dict[str, Any]:
        """What must be the same for a run to be gone on with."""
        return {
            "models": list(models),
            "types": [parted(name)[0] for name in self.settings.models],
            "runtimes": list(self.settings.runtimes),
            "inputs": [[path.name, _digest(path)] for path in self.files],
            "text_field": self.text_field,
            "min_score": self.settings.min_score,
            "keep": self.settings.keep,
            "format": self.format,
        }

    def finished(self, identity: dict[str, Any]) -> Annotated | None:
        """The result of an earlier run that made `out` of the same."""
        if not self.out.exists():
            return None
        try:
            record = atomic.read_json(self.record)
        except (OSError, ValueError):
            record = {}
        if record.get("identity") != identity:
            raise UserError(f"{self.out}: there is something else already; name another --out, or remove it first.")
        return Annotated(**{**record["result"], "state": "already finished", "out": str(self.out)})

    def make(self, identity: dict[str, Any]) -> Annotated:
        """Annotate what is not in finished parts yet, then put them together."""
        done = self._begin(identity)
        if self.on_cluster:
            cluster.make_parts(self.files, self.text_field, self.settings, self.parts, self.format, self.listener)
            return self._finish(identity)
        reading = _Reading(self.files, self.text_field)
        flat = _results(islice(iter(reading), done * work.PART, None), self.settings)
        number, at = done, done * work.PART
        while part := self._part(flat, at, reading):
            atomic.write_text(self.parts / work.part_name(number), "".join(part))
            number, at = number + 1, at + len(part)
        return self._finish(identity)

    def _begin(self, identity: dict[str, Any]) -> int:
        """Open the folder of parts; gives how many are finished."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        mark = self.parts / "identity.json"
        if mark.exists() and atomic.read_json(mark) != identity:
            raise UserError(
                f"{self.out}: an unfinished run of other models, inputs or settings stands in {self.parts.name}; go on "
                "with those, name another --out, or remove that folder first."
            )
        self.parts.mkdir(exist_ok=True)
        atomic.write_json(mark, identity)
        done = next(number for number in count() if not (self.parts / work.part_name(number)).exists())
        if done:
            self.listener.note(f"going on: {done * work.PART:,} documents are done already")
        return done

    def _part(self, flat: Iterator[Document | work.Failure], at: int, reading: "_Reading") -> list[str]:
        lines: list[str] = []
        for one in islice(flat, work.PART):
            lines.append(work.line(one, self.format))
            if len(lines) % work.CHUNK == 0 or at + len(lines) == reading.total():
                self.listener.step("documents", at + len(lines), reading.total())
        return lines

    def _finish(self, identity: dict[str, Any]) -> Annotated:
        counts: dict[str, int] = {}
        total, failures = 0, list[work.Failure]()

        def documents() -> Iterator[Document]:
            nonlocal total
            seen: set[str] = set()
            for one in self._parts():
                if isinstance(one, work.Failure):
                    failures.append(one)
                elif self.format == "brat" and one.id in seen:
                    failures.append(work.Failure("", one.id, "another document has its id, which names its file"))
                else:
                    seen.update([one.id] if self.format == "brat" else [])
                    total += 1
                    for span in one.spans:
                        counts[span.type] = counts.get(span.type, 0) + 1
                    yield one

        self._check_any()
        if self.format == "parquet":
            _write_table(documents(), self.out)
        else:
            formats.write(documents(), self.out, self.format)
        if failures:
            atomic.write_text(self.failures, "".join(json.dumps(asdict(one)) + "\n" for one in failures))
        used = dict(zip(self.settings.models, self.settings.runtimes, strict=True))
        result = Annotated(
            "finished", self.out.name, self.format, total, dict(sorted(counts.items())), len(failures),
            {Path(parted(name)[1]).name: runtime for name, runtime in used.items()},
        )  # fmt: skip
        atomic.write_json(self.record, {"identity": identity, "result": asdict(result)})
        shutil.rmtree(self.parts)
        return replace(result, out=str(self.out))

    def _check_any(self) -> None:
        """Refuse to write a file of no document."""
        found = list(islice((one for one in self._parts() if isinstance(one, Document)), 1))
        if found:
            return
        first = next(self._parts(), None)
        why = f": {first.source} {first.place}: {first.reason}" if isinstance(first, work.Failure) else ""
        shutil.rmtree(self.parts)
        raise UserError(f"No document in the inputs could be annotated{why}.")

    def _parts(self) -> Iterator[Document | work.Failure]:
        for path in sorted(self.parts.glob("*.jsonl")):
            with path.open(encoding="utf-8") as file:
                for line in file:
                    yield work.read_line(json.loads(line))


def _digest(path: Path) -> str:
    if path.is_dir():
        return hashes.of_value([[file.name, hashes.of_file(file)] for file in sorted(path.iterdir()) if file.is_file()])
    return hashes.of_file(path)


def _write_table(documents: Iterable[Document], path: Path) -> None:
    stream = iter(documents)
    with atomic.file(path) as partial, pq.ParquetWriter(partial, _SCHEMA) as writer:
        while batch := list(islice(stream, work.PART)):
            writer.write_table(pa.Table.from_pylist([_row(document) for document in batch], _SCHEMA))


def _row(document: Document) -> dict[str, Any]:
    entities = [
        {
            "start": span.start,
            "end": span.end,
            "text": document.text[span.start : span.end],
            "type": span.type,
            "identifier": span.identifier,
            "score": span.score,
        }
        for span in document.spans
    ]
    return {"id": document.id, "text": document.text, "entities": entities}
