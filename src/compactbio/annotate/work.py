"""What the processes of a run do: chunks of documents annotated, documents as lines of a part."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from compactbio import formats
from compactbio.annotate.annotator import Annotator
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.formats.documentlines import document_of, said
from compactbio.formats.faults import only
from compactbio.formats.problems import Rejected


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
        Annotator.from_pretrained(model, runtime=runtime, threads=settings.threads).taggers[0]
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
    reason = formats.unsayable(one, "jsonl" if format == "parquet" else format)
    if reason is None and format == "parquet":
        reason = _beyond_a_table(one)
    return one if reason is None else Failure("", one.id, reason.removeprefix(f"Document {one.id!r} "))


def _beyond_a_table(document: Document) -> str | None:
    try:
        only(document, "parquet", "mentions")
    except UserError as error:
        return str(error)
    return None


def line(one: Document | Failure, format: str) -> str:
    """One line of a part; a document that the format cannot say becomes a failure."""
    one = sayable(one, format)
    return said(one) if isinstance(one, Document) else json.dumps({"failure": asdict(one)}) + "\n"


def read_line(value: dict[str, Any]) -> Document | Failure:
    if "failure" in value:
        return Failure(**value["failure"])
    return document_of(value)
