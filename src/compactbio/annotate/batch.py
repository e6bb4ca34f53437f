"""Many documents to one annotated file: in several processes, in flat memory, resumed where a run was killed.

Beside the output `OUT` stand `OUT.run.json` (what the run was made of, counts) and, where documents could not be
annotated or written, `OUT.failed.jsonl` with their places and reasons. While it runs `.OUT.parts` holds finished parts.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compactbio import formats
from compactbio.annotate import pool
from compactbio.annotate.annotator import Annotator
from compactbio.corpus.progress import Listener, Silent
from compactbio.deploy import choosing, runtimes
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.formats.documentlines import document_of, said
from compactbio.formats.problems import Rejected, SourceError
from compactbio.formats.texts import read_texts
from compactbio.records import atomic, hashes
from compactbio.training.loading import Source

FORMATS = ("jsonl", "parquet", "bioc", "pubtator", "brat")
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".xml": "bioc", ".pubtator": "pubtator"}
# Documents of a task, and of a part: the same whatever the number of processes, so that the output is.
CHUNK, PART = 128, 2048
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
class Settings:
    """How documents are annotated: `runtimes` are those of the models, in their order; `threads` each worker's."""

    models: tuple[str, ...]
    runtimes: tuple[str, ...]
    min_score: float
    keep: bool
    threads: int
    workers: int


@dataclass(frozen=True)
class Annotated:
    """What a run came to; `state` is "finished" or "already finished". `seconds` is this call's own time."""

    state: str
    out: str
    format: str
    documents: int
    entities: dict[str, int]
    failed: int
    runtimes: dict[str, str]


@dataclass(frozen=True)
class Failure:
    """A document that was set aside: where it stands and why, without its text."""

    source: str
    place: str
    reason: str


def annotate(
    models: Sequence[str],
    inputs: Sequence[str | Path],
    out: Path,
    *,
    format: str | None = None,
    text_field: str | None = None,
    min_score: float = 0.0,
    keep: bool = False,
    runtime: str = "auto",
    workers: int | None = None,
    listener: Listener | None = None,
) -> Annotated:
    """Annotate all documents of the inputs (see `formats.texts.read_texts`) with the models, into the file `out`.

    `format` is one of FORMATS, by default by the suffix of `out`. Annotations that documents bring are dropped unless
    `keep`. A run that was killed goes on when it is called again with the same arguments, and gives the same file; a
    finished one is left alone. Raises UserError for whatever the user can mend, OSError where `out` cannot be written.
    """
    listener = listener or Silent()
    chosen = _format(out, format)
    files = find(inputs)
    sources = [runtimes.find(_name(model)) for model in models]
    settings = _settled(models, sources, min_score, runtime, workers, listener, keep=keep)
    run = _Run(out, chosen, files, text_field, settings, listener)
    identity = run.identity([source.digest for source in sources])
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
) -> Iterator[Document | Failure]:
    """The same documents one by one as they are ready, in their order; nothing is written or kept."""
    files = find(inputs)
    sources = [runtimes.find(_name(model)) for model in models]
    settings = _settled(models, sources, min_score, runtime, workers, listener or Silent(), keep=keep)
    return _results(_entries(files, text_field), settings)


def _settled(
    models: Sequence[str],
    sources: Sequence[Source],
    min_score: float,
    runtime: str,
    workers: int | None,
    listener: Listener,
    *,
    keep: bool,
) -> Settings:
    cores = len(os.sched_getaffinity(0))
    count = cores if workers is None else workers
    if count < 1:
        raise UserError(f"--workers {count}: must be 1 or more.")
    threads = max(1, cores // count)
    if runtime == "auto" and any(len(runtimes.available(source)) > 1 for source in sources):
        listener.note("Choosing the fastest runtime ...")
    names = tuple(choosing.fastest(source, threads) if runtime == "auto" else runtime for source in sources)
    return Settings(tuple(models), names, min_score, keep, threads, count)


def _name(model: str) -> str:
    """A model's name without the type that it is given."""
    return model if Path(model).exists() else model.rpartition("=")[2]


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


# -- in a worker

_annotator: Annotator | None = None
_settings: Settings | None = None


def _prepare(settings: Settings) -> None:
    """Load the models, once a process."""
    global _annotator, _settings
    _settings = settings
    taggers = [
        Annotator.from_pretrained(model, runtime=runtime, threads=settings.threads).taggers[0]
        for model, runtime in zip(settings.models, settings.runtimes, strict=True)
    ]
    _annotator = Annotator(taggers)


def _chunk(entries: Sequence[tuple[str, Document | Rejected]]) -> list[Document | Failure]:
    """The entries annotated, in their order; where all at once fail, each on its own."""
    documents = [entry for _, entry in entries if isinstance(entry, Document)]
    try:
        found: Iterator[Document | str] = iter(_annotated(documents))
    except Exception:
        found = (_alone(document) for document in documents)
    result: list[Document | Failure] = []
    for source, entry in entries:
        if isinstance(entry, Rejected):
            result.append(Failure(source, entry.place, entry.reason))
            continue
        one = next(found)
        result.append(Failure(source, entry.id, one) if isinstance(one, str) else one)
    return result


def _alone(document: Document) -> Document | str:
    try:
        return _annotated([document])[0]
    except Exception as error:
        # The kind of an error is safe to tell; its words may hold the text.
        return f"could not be annotated ({type(error).__name__})"


def _annotated(documents: Sequence[Document]) -> list[Document]:
    assert _annotator is not None and _settings is not None
    found = _annotator(documents, min_score=_settings.min_score)
    return [
        replace(
            document,
            spans=(*(document.spans if _settings.keep else ()), *(_span(e.start, e.end, e.type, e.score) for e in own)),
            relations=document.relations if _settings.keep else (),
            questions=document.questions if _settings.keep else (),
            tokenised=False,
        )
        for document, own in zip(documents, found, strict=True)
    ]


def _span(start: int, end: int, kind: str, score: float) -> Span:
    # Four digits: what differs beyond them is the order of sums.
    return Span(start, end, kind, score=round(score, 4))


# -- in the process that was called


def _entries(files: Sequence[Path], text_field: str | None) -> Iterator[tuple[str, Document | Rejected]]:
    """Every text of the files with its file's name; a file that is not whole or malformed ends with a rejection."""
    for path in files:
        try:
            for entry in read_texts(path, text_field):
                yield path.name, entry
        except SourceError as error:
            yield path.name, Rejected("the file", str(error))
        except UserError as error:
            yield path.name, Rejected("the file", str(error).removeprefix(f"{path}, ").removeprefix(f"{path}: "))


def _results(entries: Iterator[tuple[str, Document | Rejected]], settings: Settings) -> Iterator[Document | Failure]:
    chunks = iter(lambda: list(islice(entries, CHUNK)), [])
    for chunk in pool.ordered(_chunk, chunks, settings.workers, _prepare, settings):
        yield from chunk


@dataclass(frozen=True)
class _Run:
    out: Path
    format: str
    files: Sequence[Path]
    text_field: str | None
    settings: Settings
    listener: Listener

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
            "types": [name.partition("=")[0] if "=" in name else "" for name in self.settings.models],
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
        total = self._total()
        flat = _results(islice(_entries(self.files, self.text_field), done * PART, None), self.settings)
        number, at = done, done * PART
        while part := self._part(flat, at, total):
            atomic.write_text(self.parts / f"{number:06}.jsonl", "".join(part))
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
        done = len(list(self.parts.glob("*.jsonl")))
        if done:
            self.listener.note(f"going on: {done * PART:,} documents are done already")
        return done

    def _total(self) -> int:
        """The number of entries, 0 where counting them would take long."""
        size = sum(path.stat().st_size for path in self.files if path.is_file())
        return sum(1 for _ in _entries(self.files, self.text_field)) if size < 30_000_000 else 0

    def _part(self, flat: Iterator[Document | Failure], at: int, total: int) -> list[str]:
        lines = []
        for one in islice(flat, PART):
            lines.append(_line(one, self.format))
            if len(lines) % CHUNK == 0 or at + len(lines) == total:
                self.listener.step("documents", at + len(lines), total or at + len(lines))
        return lines

    def _finish(self, identity: dict[str, Any]) -> Annotated:
        counts: dict[str, int] = {}
        total, failures = 0, list[Failure]()

        def documents() -> Iterator[Document]:
            nonlocal total
            seen: set[str] = set()
            for one in self._parts():
                if isinstance(one, Failure):
                    failures.append(one)
                elif self.format == "brat" and one.id in seen:
                    failures.append(Failure("", one.id, "another document has its id, which names its file"))
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
            {Path(name.rpartition("=")[2]).name: runtime for name, runtime in used.items()},
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
        why = f": {first.source} {first.place}: {first.reason}" if isinstance(first, Failure) else ""
        shutil.rmtree(self.parts)
        raise UserError(f"No document in the inputs could be annotated{why}.")

    def _parts(self) -> Iterator[Document | Failure]:
        for path in sorted(self.parts.glob("*.jsonl")):
            with path.open(encoding="utf-8") as file:
                for line in file:
                    yield _read(json.loads(line))


def _digest(path: Path) -> str:
    if path.is_dir():
        return hashes.of_value([[file.name, hashes.of_file(file)] for file in sorted(path.iterdir()) if file.is_file()])
    return hashes.of_file(path)


def _line(one: Document | Failure, format: str) -> str:
    """One line of a part; a document that the format cannot say becomes a failure."""
    if isinstance(one, Document):
        reason = formats.unsayable(one, "jsonl" if format == "parquet" else format)
        if reason is None:
            return said(one)
        one = Failure("", one.id, reason.removeprefix(f"Document {one.id!r} "))
    return json.dumps({"failure": asdict(one)}) + "\n"


def _read(value: dict[str, Any]) -> Document | Failure:
    if "failure" in value:
        return Failure(**value["failure"])
    return document_of(value)


def _write_table(documents: Iterable[Document], path: Path) -> None:
    stream = iter(documents)
    with atomic.file(path) as partial, pq.ParquetWriter(partial, _SCHEMA) as writer:
        while batch := list(islice(stream, PART)):
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
