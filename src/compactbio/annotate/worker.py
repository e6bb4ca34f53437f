"""What a process of a run does: it loads the models once, then annotates batches of documents, whatever fails."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from compactbio import formats
from compactbio.annotate.annotator import Annotator, Entity, load_tagger
from compactbio.annotate.shards import Entry
from compactbio.documents import Document, Span
from compactbio.errors import UserError
from compactbio.formats.checks import check_only
from compactbio.formats.json_lines import document_of, serialise
from compactbio.formats.streams import Rejected


@dataclass(frozen=True)
class Settings:
    """How documents are annotated.

    Attributes:
        models: Folders or hub names, or "TYPE=MODEL".
        runtimes: The runtime of each model.
        min_score: The lowest score of an entity, in [0, 1].
        keep: Whether the annotations that documents bring are kept.
        threads: Threads of each worker.
        workers: Processes.
        batch_size: Documents that are annotated together.
        device: One of `hardware.DEVICES`.
        gpus: What CUDA_VISIBLE_DEVICES names the GPUs that the workers share; none on the CPU.
    """

    models: tuple[str, ...]
    runtimes: tuple[str, ...]
    min_score: float
    keep: bool
    threads: int
    workers: int
    batch_size: int = 128
    device: str = "auto"
    gpus: tuple[str, ...] = ()


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
                continue
            found = next(annotated)
            result.append(Failure(source, entry.id, found) if isinstance(found, str) else found)
        return result

    def _annotate_alone(self, document: Document) -> Document | str:
        try:
            return self._annotate([document])[0]
        except Exception as error:
            # The kind of an error can be printed; its words may hold the text.
            return f"could not be annotated ({type(error).__name__})"

    def _annotate(self, documents: Sequence[Document]) -> list[Document]:
        keep = self._settings.keep
        found = self._annotator(documents, min_score=self._settings.min_score)
        return [
            replace(
                document,
                spans=(*(document.spans if keep else ()), *map(_span, entities)),
                relations=document.relations if keep else (),
                questions=document.questions if keep else (),
                tokenised=False,
            )
            for document, entities in zip(documents, found, strict=True)
        ]


def start_worker(number: int | None, settings: Settings) -> Worker:
    """Load the models in worker process `number`, on its own GPU where there are several; None: in this process."""
    if number is not None and settings.gpus:
        # Read when PyTorch first looks for GPUs, which a new process has not done yet.
        os.environ["CUDA_VISIBLE_DEVICES"] = settings.gpus[number % len(settings.gpus)]
    taggers = [
        load_tagger(model, runtime=runtime, device=settings.device, threads=settings.threads)
        for model, runtime in zip(settings.models, settings.runtimes, strict=True)
    ]
    return Worker(Annotator(taggers), settings)


def _span(entity: Entity) -> Span:
    # Four digits: what differs beyond them is the order of sums.
    return Span(entity.start, entity.end, entity.type, score=round(entity.score, 4))


def checked(result: Document | Failure, format: str) -> Document | Failure:
    """The result; of a document that cannot be written in the format, a failure with the reason."""
    if isinstance(result, Failure):
        return result
    reason = formats.why_not_writable(result, "jsonl" if format == "parquet" else format)
    if reason is None and format == "parquet":
        try:
            check_only(result, "parquet", "mentions")
        except UserError as error:
            reason = str(error)
    return result if reason is None else Failure("", result.id, reason.removeprefix(f"Document {result.id!r} "))


def to_line(result: Document | Failure, format: str) -> str:
    """A result as one line of a shard's file; see `checked`."""
    result = checked(result, format)
    return serialise(result) if isinstance(result, Document) else json.dumps({"failure": asdict(result)}) + "\n"


def from_line(value: dict[str, Any]) -> Document | Failure:
    """What `to_line` wrote, of the line's JSON value."""
    return Failure(**value["failure"]) if "failure" in value else document_of(value)


def none_annotated(first: Failure | None) -> UserError:
    """The error of a run without a single annotated document; `first` is the first that was set aside."""
    return UserError(f"No document in the inputs could be annotated{f': {first}' if first else ''}.")
