"""What the processes of a run do: texts read, chunks annotated, documents as lines of a part."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from compactbio import formats
from compactbio.annotate.annotator import Annotator
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.formats.documentlines import document_of, said
from compactbio.formats.problems import Rejected, rejected
from compactbio.formats.texts import Reading, read_texts

# Documents of a task, and of a part: the same whatever the number of processes, so that the output is.
CHUNK, PART = 128, 2048


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
class Failure:
    """A document that was set aside: where it stands and why, without its text."""

    source: str
    place: str
    reason: str


def part_name(number: int) -> str:
    """The file of a part."""
    return f"{number:06}.jsonl"


def entries(files: Sequence[Path], reading: Reading) -> Iterator[tuple[str, Document | Rejected]]:
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


_annotator: Annotator | None = None
_settings: Settings | None = None


def prepare(settings: Settings) -> None:
    """Load the models, once a process."""
    global _annotator, _settings
    _settings = settings
    taggers = [
        Annotator.from_pretrained(model, runtime=runtime, threads=settings.threads).taggers[0]
        for model, runtime in zip(settings.models, settings.runtimes, strict=True)
    ]
    _annotator = Annotator(taggers)


def chunk(some: Sequence[tuple[str, Document | Rejected]]) -> list[Document | Failure]:
    """The entries annotated, in their order; where all at once fail, each on its own."""
    documents = [entry for _, entry in some if isinstance(entry, Document)]
    try:
        found: Iterator[Document | str] = iter(_annotated(documents))
    except Exception:
        found = (_alone(document) for document in documents)
    result: list[Document | Failure] = []
    for source, entry in some:
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


def line(one: Document | Failure, format: str) -> str:
    """One line of a part; a document that the format cannot say becomes a failure."""
    if isinstance(one, Document):
        reason = formats.unsayable(one, "jsonl" if format == "parquet" else format)
        if reason is None:
            return said(one)
        one = Failure("", one.id, reason.removeprefix(f"Document {one.id!r} "))
    return json.dumps({"failure": asdict(one)}) + "\n"


def read_line(value: dict[str, Any]) -> Document | Failure:
    if "failure" in value:
        return Failure(**value["failure"])
    return document_of(value)
