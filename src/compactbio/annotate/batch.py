"""Many documents to one annotated file: in several processes, in flat memory, resumed where a run was killed.

Beside the output `OUT` stand `OUT.run.json` (what the run was made of, counts) and, where documents could not be
annotated or written, `OUT.failed.jsonl` with their places and reasons. While it runs `.OUT.parts` holds finished parts.
"""

import json
import shutil
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compactbio import formats
from compactbio.annotate import ray_cluster, run_units
from compactbio.annotate.annotator import parted
from compactbio.annotate.run_units import Entry, Finished, Place, Unit
from compactbio.corpus.deduplication import Versions, choose
from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.files import atomic_file, clean, file_digest, locked, read_json, value_digest, write_json, write_text
from compactbio.formats import Reading, find_texts
from compactbio.formats.sources import visible
from compactbio.modeling import hardware, runtimes
from compactbio.modeling.loading import Source
from compactbio.processes import cores, ordered_results
from compactbio.progress import Listener, Silent
from compactbio.tasks.registry import unknown_words

FORMATS = ("jsonl", "parquet", "bioc", "pubtator", "brat")
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".xml": "bioc", ".pubtator": "pubtator"}
_QUICK = 30_000_000  # bytes of input that are counted beforehand
_TABLE = 1024  # documents that are written together
# Parts that were cut another way must not be resumed from: raise it when the cut changes.
_CUT = 2
_MARK = "identity.json"
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
    """What a run came to; `state` is "finished" or "already finished".

    Of PubMed's records `updated` were replaced by newer ones of their PMIDs, and `deleted` withdrawn; neither is among
    the documents.
    """

    state: str
    out: str
    format: str
    documents: int
    entities: dict[str, int]
    failed: int
    runtimes: dict[str, str]
    updated: int = 0
    deleted: int = 0


def annotate(
    models: Sequence[str],
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    format: str | None = None,
    input_format: str | None = None,
    text_field: str | None = None,
    min_score: float = 0.0,
    keep: bool = False,
    runtime: str = "auto",
    workers: int | None = None,
    on_cluster: bool = False,
    listener: Listener | None = None,
) -> Annotated:
    """Annotate all documents of the inputs (see `formats.read_texts`) with the models, into the file `out`.

    `format` is one of FORMATS, by default by the suffix of `out`; `input_format` one of `formats.recognise.TEXTS`, by
    default recognised for each file. Of PubMed's records the newest of each PMID is taken, and none that was withdrawn
    (see `corpus.deduplication.choose`). Annotations that documents bring are dropped unless `keep`. `workers` are
    processes, by default one a GPU, or one a core where there is none; `on_cluster` has them run on the Ray cluster
    that RAY_ADDRESS names, or on a local one, where every machine must see the same files. A run that was killed goes
    on when it is called again with the same arguments, and gives the same file; a finished one is left alone. Raises
    UserError for whatever the user can fix, where no document could be annotated, and where another run is writing
    `out`; OSError where `out` cannot be written.
    """
    listener, out = listener or Silent(), Path(out)
    chosen = _format(out, format)
    reading = Reading(text_field, input_format)
    files = find(inputs, listener)
    sources = [runtimes.find(parted(model)[1], runtime) for model in models]
    with locked(out):
        settings = _settled(models, sources, min_score, runtime, workers, listener, keep=keep)
        run = _Run(out, chosen, files, reading, settings, listener, on_cluster)
        names = settings.runtimes
        identity = run.identity([runtimes.digest(*one) for one in zip(sources, names, strict=True)])
        result = run.finished(identity) or run.make(identity)
    _note_doubts(sources, listener)
    return result


def stream(
    models: Sequence[str],
    inputs: Sequence[str | Path],
    *,
    input_format: str | None = None,
    text_field: str | None = None,
    min_score: float = 0.0,
    keep: bool = False,
    runtime: str = "auto",
    workers: int | None = None,
    listener: Listener | None = None,
) -> Iterator[Document | run_units.Failure]:
    """The same documents one by one as they are ready, in their order; nothing is written or kept."""
    listener = listener or Silent()
    reading = Reading(text_field, input_format)
    files = find(inputs, listener)
    sources = [runtimes.find(parted(model)[1], runtime) for model in models]
    settings = _settled(models, sources, min_score, runtime, workers, listener, keep=keep)
    listener.note(", ".join(f"{model} on {used}" for model, used in _used(settings).items()))
    versions = _versions(files, reading, settings, listener)
    found = run_units.entries(files, replace(reading, passed_over=versions.passed_over))
    chunks = iter(lambda: list(islice(found, run_units.CHUNK)), [])
    done = ordered_results(run_units.start, (settings,), chunks, settings.workers)
    return _streamed(done, sources, listener)


def _streamed(
    chunks: Iterator[list[Document | run_units.Failure]], sources: Sequence[Source], listener: Listener
) -> Iterator[Document | run_units.Failure]:
    for chunk in chunks:
        yield from (run_units.sayable(one, "jsonl") for one in chunk)
    _note_doubts(sources, listener)


def _note_doubts(sources: Sequence[Source], listener: Listener) -> None:
    for source in sources:
        if doubt := unknown_words(source.config, source.public_name()):
            listener.note(doubt)


def _settled(
    models: Sequence[str],
    sources: Sequence[Source],
    min_score: float,
    runtime: str,
    workers: int | None,
    listener: Listener,
    *,
    keep: bool,
) -> run_units.Settings:
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: must be 1 or more.")
    processors = cores()
    threads = max(1, processors // (workers or processors))
    if runtime == "fastest":
        listener.note("Choosing the fastest runtime ...")
    names = tuple(runtimes.chosen(source, runtime, threads) for source in sources)
    devices = hardware.gpus() if any(name in runtimes.TORCH for name in names) else ()
    count = workers or len(devices) or processors
    return run_units.Settings(tuple(models), names, min_score, keep, max(1, processors // count), count, devices)


def _used(settings: run_units.Settings) -> dict[str, str]:
    """The runtime of each model by its name, numbered where several models have the same."""
    found: dict[str, str] = {}
    for model, runtime in zip(settings.models, settings.runtimes, strict=True):
        name = Path(parted(model)[1]).name
        same = sum(1 for one in found if one == name or one.startswith(f"{name} ("))
        found[f"{name} ({same + 1})" if same else name] = runtime
    return found


def find(inputs: Sequence[str | Path], listener: Listener) -> Sequence[Path]:
    """The files and folders that the inputs name; what was passed over is noted. Raises UserError as `find_texts`
    does."""
    found = find_texts(inputs)
    for note in found.notes():
        listener.note(note)
    return found.files


def _versions(files: Sequence[Path], reading: Reading, settings: run_units.Settings, listener: Listener) -> Versions:
    """Which of PubMed's records are passed over, reported to the listener."""
    found = choose(files, reading, settings.workers, listener)
    if found.updated or found.deleted:
        listener.note(
            f"passed over: {found.updated:,} records replaced by newer ones of their PMIDs, "
            f"{found.deleted:,} withdrawn ones"
        )
    return found


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


class _Progress:
    """Tells how many documents are done, and of how many: counted where that is quick, else estimated from the units
    that are done, 0 before the first is."""

    def __init__(self, units: Sequence[Unit], reading: Reading, listener: Listener) -> None:
        self._listener = listener
        self._bytes = sum(unit.bytes for unit in units)
        self._done = self._behind = 0
        quick = self._bytes < _QUICK
        self._known = sum(1 for unit in units for _ in run_units.entries(unit.files, reading)) if quick else 0

    def add(self, documents: int, ended: int = 0) -> None:
        """So many documents more are done, which end units of so many bytes."""
        self._done += documents
        self._behind += ended
        total = self._known or (round(self._done * self._bytes / self._behind) if self._behind else 0)
        self._listener.step("documents", self._done, total)


@dataclass(frozen=True)
class _Run:
    out: Path
    format: str
    files: Sequence[Path]
    reading: Reading
    settings: run_units.Settings
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
            "text_field": self.reading.field,
            "input_format": self.reading.format,
            "min_score": self.settings.min_score,
            "keep": self.settings.keep,
            "format": self.format,
        }

    def finished(self, identity: dict[str, Any]) -> Annotated | None:
        """The result of an earlier run that made `out` of the same."""
        if not self.out.exists() or self._begun() == {**identity, "cut": _CUT}:
            # With its parts still there, a run died after it wrote `out` and before it said so.
            return None
        try:
            record = read_json(self.record)
        except (OSError, ValueError):
            record = {}
        if record.get("identity") != identity:
            raise UserError(f"{self.out}: there is something else already; name another --out, or remove it first.")
        return Annotated(**{**record["result"], "state": "already finished", "out": str(self.out)})

    def make(self, identity: dict[str, Any]) -> Annotated:
        """Annotate what is not in finished parts yet, then put them together."""
        units = run_units.units(self.files)
        done = self._begin({**identity, "cut": _CUT})
        versions = _versions(self.files, self.reading, self.settings, self.listener)
        reading = replace(self.reading, passed_over=versions.passed_over)
        progress = _Progress(units, reading, self.listener)
        kept = sum(_lines(path) for path in done.files)
        if kept:
            self.listener.note(f"going on: {kept:,} documents are done already")
            progress.add(kept, sum(unit.bytes for unit in units if done.whole(unit)))
        left = [unit for unit in units if not done.whole(unit)]
        if self.on_cluster:
            made = ray_cluster.make_parts(left, done, reading, self.settings, self.parts, self.format)
        else:
            made = self._make_parts(left, done, reading)
        for count, place in made:
            progress.add(count, units[place.unit].bytes if place and place.last else 0)
        return self._finish(identity, versions)

    def _make_parts(self, left: Sequence[Unit], done: Finished, reading: Reading) -> Iterator[tuple[int, Place | None]]:
        """Make the parts that are left in processes of this machine; gives the number of documents that have been
        annotated since, and each part that is finished."""
        places = deque[Place]()  # of the chunks that are being annotated, whose results come in their order

        def chunks() -> Iterator[Sequence[Entry]]:
            for unit in left:
                for place, part in run_units.read(unit, reading, done.of(unit)):
                    for chunk in run_units.chunks(part):
                        places.append(place)
                        yield chunk

        made = ordered_results(run_units.start, (self.settings,), chunks(), self.settings.workers)
        placed = ((places.popleft(), chunk) for chunk in made)
        for place, own in groupby(placed, key=itemgetter(0)):
            lines: list[str] = []
            for _, chunk in own:
                lines += [run_units.line(one, self.format) for one in chunk]
                yield len(chunk), None
            write_text(self.parts / place.name, "".join(lines))
            yield 0, place

    def _begun(self) -> Any:
        """What the run whose parts stand there was made of, None where there is none."""
        mark = self.parts / _MARK
        return read_json(mark) if mark.exists() else None

    def _begin(self, identity: dict[str, Any]) -> Finished:
        """Open the folder of parts; gives those that are finished."""
        if self._begun() not in (None, identity):
            raise UserError(
                f"{self.out}: an unfinished run of other models, inputs or settings stands in {self.parts.name}; go on "
                "with those, name another --out, or remove that folder first."
            )
        self.parts.mkdir(exist_ok=True)
        clean(self.parts)
        write_json(self.parts / _MARK, identity)
        return Finished(self.parts)

    def _finish(self, identity: dict[str, Any], versions: Versions) -> Annotated:
        counts: dict[str, int] = {}
        total, failures = 0, list[run_units.Failure]()

        def documents() -> Iterator[Document]:
            nonlocal total
            seen: set[str] = set()
            for one in self._parts():
                if isinstance(one, run_units.Failure):
                    failures.append(one)
                elif self.format == "brat" and _file_name(one.id) in seen:
                    failures.append(run_units.Failure("", one.id, "another document has its id, which names its file"))
                else:
                    if self.format == "brat":
                        seen.add(_file_name(one.id))
                    total += 1
                    for span in one.spans:
                        counts[span.type] = counts.get(span.type, 0) + 1
                    yield one

        self._check_any()
        if self.out.is_dir():
            # That of a run which died before it said so: `finished` lets no other pass.
            shutil.rmtree(self.out)
        if self.format == "parquet":
            _write_table(documents(), self.out)
        else:
            formats.write(documents(), self.out, self.format)
        if failures:
            write_text(self.failures, "".join(json.dumps(asdict(one)) + "\n" for one in failures))
        result = Annotated(
            "finished", self.out.name, self.format, total, dict(sorted(counts.items())), len(failures),
            _used(self.settings), versions.updated, versions.deleted,
        )  # fmt: skip
        write_json(self.record, {"identity": identity, "result": asdict(result)})
        shutil.rmtree(self.parts)
        return replace(result, out=str(self.out))

    def _check_any(self) -> None:
        """Refuse to write a file of no document."""
        found = list(islice((one for one in self._parts() if isinstance(one, Document)), 1))
        if found:
            return
        first = next((one for one in self._parts() if isinstance(one, run_units.Failure)), None)
        shutil.rmtree(self.parts)
        raise run_units.none_annotated(first)

    def _parts(self) -> Iterator[Document | run_units.Failure]:
        for path in Finished(self.parts).files:
            with path.open(encoding="utf-8") as file:
                for line in file:
                    yield run_units.read_line(json.loads(line))


def _file_name(name: str) -> str:
    """What names of files have in common on file systems that tell neither case nor ways of writing an accent apart."""
    return unicodedata.normalize("NFC", name).casefold()


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _digest(path: Path) -> str:
    if path.is_dir():
        return value_digest([[file.name, file_digest(file)] for file in sorted(visible(path))])
    return file_digest(path)


def _write_table(documents: Iterable[Document], path: Path) -> None:
    stream = iter(documents)
    with atomic_file(path) as partial, pq.ParquetWriter(partial, _SCHEMA) as writer:
        while batch := list(islice(stream, _TABLE)):
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
