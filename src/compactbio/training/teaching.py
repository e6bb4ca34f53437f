"""A student of a task and its teachers: what it learns from beside the labels, and its rows with soft labels.

Teachers compute in this process, on several, or on a Ray cluster by Ray Data, all into one cache.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch.utils.data import ConcatDataset, Subset

from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.files import value_digest
from compactbio.modeling import hardware, runtimes
from compactbio.modeling.packing import NO_LABEL, Row
from compactbio.processes import cores, ordered_results
from compactbio.progress import Listener, Reporter, Silent
from compactbio.tasks import data as datasets
from compactbio.tasks import units
from compactbio.tasks.outcome import listed
from compactbio.tasks.settings import OF_TEACHERS, OF_TEXTS, Settings
from compactbio.training import run_folder, soft_labels, unlabelled
from compactbio.training.batches import Rows
from compactbio.training.corpora import Corpora
from compactbio.training.soft_labels import Ensemble, Teacher
from compactbio.training.unlabelled import RowWriter, StoredRows, Texts

# The folder in a run's where unlabelled rows are kept until it is finished.
ROWS = "rows"
_STAGE = "teacher outputs, documents"
_ROWS_STAGE = "rows with teacher outputs, documents"


@dataclass(frozen=True)
class Teaching:
    """The teachers of a student, and the unlabelled texts that they label for it.

    They compute on `workers` processes, or on a Ray cluster (`on_cluster`), and without either in this process.
    """

    teachers: tuple[Teacher, ...]
    texts: Texts | None
    workers: int | None = None
    on_cluster: bool = False

    @cached_property
    def digests(self) -> list[dict[str, str]]:
        """The name and SHA-256 of each file of texts; files of two folders may have one name."""
        files = self.texts.files if self.texts else ()
        return [{"name": path.name, "sha256": datasets.digest(path)} for path in files]

    def record(self) -> dict[str, Any]:
        """What they are, for the record of a run."""
        # What is held out decides which of the texts are learned from.
        held_out = {"test_or_devel_split": self.texts.held_out.digest} if self.texts else {}
        teachers = [teacher.record() for teacher in self.teachers]
        return {"teachers": teachers, "unlabelled": self.digests or None, **held_out}

    def check_workers(self) -> None:
        """Raise UserError for workers or a cluster that have nothing to compute, or share it with other processes."""
        if (self.workers or self.on_cluster) and run_folder.processes().num_processes > 1:
            raise UserError(
                "The processes of a launcher share the teachers' work themselves: leave out workers and cluster, or "
                "begin the run in one process.",
                setting="workers",
            )
        if self.on_cluster and self.texts is None:
            raise UserError("A cluster computes teachers on unlabelled texts: name some.", setting="unlabelled")


@dataclass(frozen=True)
class Taught:
    """The rows of a student, with numbers for a record and sentences on what was left out."""

    rows: Rows
    numbers: dict[str, int]
    notes: tuple[str, ...]


def settings_of_teaching(chosen: Settings, *, teachers: bool, texts: bool) -> Settings:
    """The settings with the defaults of distillation where there are teachers.

    Raises UserError for settings and texts that need what is not there.
    """
    if not teachers:
        named = [name for name in OF_TEACHERS if getattr(chosen, name) is not None]
        if named or texts:
            what = f"{named[0]} is" if named else "Unlabelled texts are"
            raise UserError(f"{what} for a student with a teacher: name one, or leave it out.", setting="teacher")
    sampling = [name for name in OF_TEXTS if getattr(chosen, name) is not None]
    if sampling and not texts:
        raise UserError(f"{sampling[0]} is for unlabelled texts: name some, or leave it out.", setting="unlabelled")
    if sampling and chosen.sample is None:
        raise UserError(f"{sampling[0]} is for a sample: set how many rows it has (sample), or leave it out.")
    if not teachers:
        return chosen
    weight = 0.5 if chosen.distil_weight is None else chosen.distil_weight
    if texts and not weight:
        raise UserError("distil_weight is 0, so nothing is learnt from unlabelled texts: set it higher, or name none.")
    return chosen.model_copy(update={"distil_weight": weight, "temperature": chosen.temperature or 2.0})


def taught_rows(
    teaching: Teaching,
    corpora: Corpora,
    encode: Callable[[Sequence[Document]], Any],
    encoded: Any,
    labels: Sequence[str],
    nothing: Sequence[str],
    settings: Settings,
    reading: str,
    out: Path,
) -> Taught:
    """The student's rows with what its teachers say of them.

    Args:
        teaching: the teachers and the unlabelled texts.
        corpora: the labelled documents.
        encode: unlabelled documents to the student's rows.
        encoded: those of `corpora.train`.
        labels: the student's, in the order of their ids.
        nothing: those that stand for no mention or relation.
        settings: the run's.
        reading: the fingerprint of how the student reads documents.
        out: the folder of the run.

    Each process computes its share of what the cache lacks, and reads all of it. Raises UserError where no unlabelled
    text is left, or the disk is full.
    """
    assert settings.temperature is not None
    teaching.check_workers()
    task, train, temperature = corpora.task, corpora.train, settings.temperature
    ensemble = Ensemble(teaching.teachers)
    columns = frozenset(labels.index(label) for label in nothing if label in labels)
    teachers_read = [teacher.digest for teacher in teaching.teachers]
    owner = value_digest([reading, teachers_read, list(labels), settings.record(), teaching.record()])

    def rows_of(documents: Sequence[Document]) -> list[Row]:
        return units.soft_rows(task, documents, encode(documents), ensemble.scores(documents), temperature)

    writer = RowWriter(out / ROWS / owner[:16], task, rows_of, columns, owner)
    counts = unlabelled.count(teaching.texts) if teaching.texts else Counter[str]()
    files = _compute(teaching, ensemble, train, writer, len(train) + counts["used"])
    scores = [ensemble.scores(chunk) for chunk in soft_labels.chunks(train)]
    teachers = [[group for chunk in scores for group in chunk[k]] for k in range(len(teaching.teachers))]
    soft = units.soft_rows(task, train, encoded, teachers, temperature)
    labelled = [row for row in soft if (row.labels != NO_LABEL).any()]
    notes = tuple(
        f"{teacher.source.public_name()} also finds {listed(teacher.foreign)}, which counts as no mention here."
        for teacher in teaching.teachers
        if teacher.foreign
    )
    if teaching.texts is None:
        return Taught(labelled, {}, notes)
    stored = StoredRows(writer, files)
    chosen = unlabelled.choose(stored.facts, settings)
    finding = int(np.count_nonzero(stored.facts[chosen, 1]))
    numbers = {**counts, "rows": len(stored), "rows trained on": len(chosen), "rows with something found": finding}
    # In memory, and on disk.
    rows: Any = ConcatDataset([labelled, Subset(stored, chosen)])  # type: ignore[list-item, arg-type]
    return Taught(rows, numbers, (*notes, _sentence(counts)))


def _sentence(counts: Counter[str]) -> str:
    excluded = counts["excluded by id"] + counts["excluded by text"]
    empty = counts["without anything for the task"]
    left = {"could not be read": counts["rejected"], "held nothing for the task": empty}
    more = "".join(f"; {number:,} {what}" for what, number in left.items() if number)
    return (
        f"Of {counts['read']:,} unlabelled documents {excluded:,} were left out because they are in the test or devel "
        f"split ({counts['excluded by id']:,} by id, {counts['excluded by text']:,} by text){more}."
    )


def _compute(teaching: Teaching, ensemble: Ensemble, train: Sequence[Document], writer: RowWriter, total: int) -> int:
    """Compute this process's share of what is missing, and wait for the others; gives the number of files of rows."""
    processes = run_folder.processes()
    done = files = 0
    texts = teaching.texts
    reporter: AbstractContextManager[Listener] = nullcontext(Silent())
    if processes.is_main_process:
        reporter = Reporter(Console(stderr=True))
    with reporter as listener:
        for number in _ahead(teaching, train):
            done += number
            listener.step(_STAGE, done, total)
        done = 0
        for number, chunk in enumerate(soft_labels.chunks(train)):
            if number % processes.num_processes == processes.process_index:
                ensemble.fill(chunk)
            done += len(chunk)
            listener.step(_ROWS_STAGE, done, total)
        for number, chunk in enumerate(texts.chunks() if texts else ()):
            if number % processes.num_processes == processes.process_index:
                writer.write(number, chunk)
            done, files = done + len(chunk), number + 1
            listener.step(_ROWS_STAGE, done, total)
    processes.wait_for_everyone()
    return files


# -- workers, which fill the cache


@dataclass(frozen=True)
class Work:
    """What each worker needs: the teachers, the folder of the cache, the device, its number of threads, and the GPUs
    that workers of this machine share in turn."""

    teachers: tuple[Teacher, ...]
    cache: Path
    device: str
    threads: int
    gpus: tuple[str, ...]


def _ahead(teaching: Teaching, train: Sequence[Document]) -> Iterator[int]:
    """Fill the cache on several processes or a cluster, where that is asked for; gives documents as they are done."""
    if not (teaching.workers or teaching.on_cluster):
        return
    workers = teaching.workers or cores()
    device = "auto" if hardware.uses_gpu() else "cpu"
    threads, cache = max(1, cores() // workers), runtimes.cache().absolute()
    work = Work(teaching.teachers, cache, device, threads, hardware.gpus())
    if teaching.on_cluster and teaching.texts is not None:
        yield from _on_cluster(work, teaching.texts, workers)
        return
    texts = teaching.texts.chunks() if teaching.texts else ()
    yield from ordered_results(_start, (work,), chain(soft_labels.chunks(train), texts), workers)


def _start(number: int | None, work: Work) -> Callable[[Sequence[Document]], int]:
    if number is not None:
        hardware.take_gpu(number, work.gpus)
    torch.set_num_threads(work.threads)
    ensemble = Ensemble(work.teachers, work.cache)

    def fill(documents: Sequence[Document]) -> int:
        with hardware.on_device(work.device):
            ensemble.fill(documents)
        return len(documents)

    return fill


def _on_cluster(work: Work, texts: Texts, workers: int) -> Iterator[int]:
    """Compute texts on a Ray cluster, in any order: each file is read by one task, its chunks are computed by actors.

    All machines must see the files, the models and the cache under the same paths. Raises UserError without Ray, and
    where the cluster cannot be reached or stops; what was computed is kept.
    """
    try:
        import ray.data
    except ImportError:
        raise UserError("Ray is not installed: pip install 'compactbio[cluster]'.", setting="cluster") from None
    resources = {"num_gpus": 1} if hardware.uses_gpu() else {"num_cpus": work.threads}
    try:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="critical")
            # Errors are reported below, in one sentence.
            logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        ray.data.DataContext.get_current().enable_progress_bars = False
        files = ray.data.from_items([{"file": str(path.absolute())} for path in texts.files])
        pool = ray.data.ActorPoolStrategy(min_size=1, max_size=workers)
        chunks = files.flat_map(_read, fn_args=(texts,), num_cpus=0)
        for row in chunks.map(_Actor, fn_constructor_args=(work,), compute=pool, **resources).iter_rows():
            yield row["documents"]
    except ConnectionError as error:
        raise UserError(f"The Ray cluster cannot be reached ({error}); check RAY_ADDRESS.") from None
    except ray.exceptions.RayError as error:
        first = str(error).strip().rpartition("\n")[2]
        raise UserError(
            f"The Ray cluster stopped the teachers ({first}); run the same command again, what they computed is kept."
        ) from error


def _read(row: dict[str, Any], texts: Texts) -> Iterator[dict[str, Any]]:
    """The chunks of a file."""
    for chunk in replace(texts, files=(Path(row["file"]),)).chunks():
        yield {"chunk": chunk}


class _Actor:
    """Computes chunks; it loads the teachers once."""

    def __init__(self, work: Work) -> None:
        self._fill = _start(None, work)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"documents": self._fill(list(row["chunk"]))}
