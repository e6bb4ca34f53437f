"""What a fine-tuning run and its teachers will take: rows are counted, time is forecast from what is timed here."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor

from compactbio.documents import Document
from compactbio.modeling import hardware, loading
from compactbio.modeling.families import encoder_parameters
from compactbio.modeling.packing import Row
from compactbio.progress import Listener, listening
from compactbio.tasks.calibration import CALIBRATED
from compactbio.training import batches, engine, run_folder, soft_labels, unlabelled
from compactbio.training.finetuning import Inputs, collect
from compactbio.training.plan import Clock
from compactbio.training.soft_labels import Ensemble
from compactbio.training.task_model import TaskModel

_STEPS = 8  # that are timed, after one that warms up


@dataclass(frozen=True)
class FinetuningPlan:
    """What a run will take.

    Attributes:
        parameters: of the student's encoder.
        teachers: their names.
        labelled_rows: rows with labels.
        unlabelled_documents: those to learn from the teachers alone, and
        unlabelled_rows: their rows, by the rows of a sample, those that are trained on.
        steps: of the run.
        tokens: of all steps, by the mean length of rows.
        tokens_per_second: while training, measured.
        memory_bytes: the peak of a process that trains, measured.
        seconds: of the run in all, which are
        teacher_seconds, training_seconds, devel_seconds: computing what teachers say (of all texts, also those that the
            cache holds), training, and scoring devel.
        machine, precision: what was measured on.
    """

    task: str
    parameters: int
    teachers: tuple[str, ...]
    labelled_rows: int
    unlabelled_documents: int
    unlabelled_rows: int
    steps: int
    tokens: float
    tokens_per_second: float
    memory_bytes: int
    seconds: float
    teacher_seconds: float
    training_seconds: float
    devel_seconds: float
    machine: dict[str, Any]
    precision: str


def plan(data: Any, model: str | Path, *, listener: Listener | None = None, **options: Any) -> FinetuningPlan:
    """Forecast what `finetuning.finetune` with the same arguments takes; nothing is written.

    Counts all rows and unlabelled documents, times the teachers on a chunk of documents, and some steps of training.

    Args:
        data, model, **options: as for `finetune`, without its folder.
        listener: gets a sentence on what is being done.

    Raises UserError as `finetune` does.
    """
    run_folder.refuse_several("A forecast")
    inputs = collect(data, model, **options)
    with loading.quiet():
        return _plan(inputs, listening(listener))


def _plan(inputs: Inputs, listener: Listener) -> FinetuningPlan:
    chosen, teaching = inputs.settings, inputs.teaching
    if teaching is not None:
        teaching.check_workers()
    _, allowed, labelled = inputs.labelled_rows()
    documents, rows, lengths, teacher_seconds = 0, 0, 0.0, 0.0
    if teaching is not None and chosen.distil_weight:
        sample: Sequence[Document] = inputs.corpora.train[: soft_labels.CHUNK]
        if teaching.texts is not None:
            listener.note("Counting the unlabelled documents ...")
            documents = unlabelled.count(teaching.texts)["used"]
            sample = list(islice(teaching.texts.documents(), soft_labels.CHUNK))
        found = [len(row) for row in inputs.encode_unlabelled(sample).rows]
        if documents:
            rows, lengths = round(len(found) / len(sample) * documents), statistics.fmean(found)
        listener.note(f"Timing what teachers say of {len(sample)} documents ...")
        per_row = _teacher_seconds(inputs, sample) / max(1, len(found))
        teacher_seconds = per_row * (len(labelled) + rows) / (teaching.workers or 1)
    trained = min(rows, chosen.sample or rows)
    steps = math.ceil((len(labelled) + trained) * chosen.epochs / chosen.batch_size)
    mean = statistics.fmean(map(len, labelled))
    tokens = chosen.epochs * (len(labelled) * mean + trained * lengths)
    listener.note(f"Timing {_STEPS} steps of {chosen.batch_size} rows ...")
    parameters, per_token, update = _timed(inputs, labelled, allowed)
    training = tokens * per_token + steps * update
    devel = _devel_seconds(inputs, listener)
    return FinetuningPlan(
        task=inputs.corpora.task,
        parameters=parameters,
        teachers=tuple(teacher.source.public_name() for teacher in teaching.teachers) if teaching else (),
        labelled_rows=len(labelled),
        unlabelled_documents=documents,
        unlabelled_rows=trained,
        steps=steps,
        tokens=tokens,
        tokens_per_second=tokens / training,
        memory_bytes=hardware.peak(),
        seconds=teacher_seconds + training + devel,
        teacher_seconds=teacher_seconds,
        training_seconds=training,
        devel_seconds=devel,
        machine=hardware.machine(),
        precision=inputs.precision,
    )


def _teacher_seconds(inputs: Inputs, sample: Sequence[Document]) -> float:
    """Seconds of the teachers for some documents, which are not taken from the cache."""
    assert inputs.teaching is not None
    with TemporaryDirectory() as folder:
        ensemble = Ensemble(inputs.teaching.teachers, Path(folder))
        # Loads the models; the cache keeps it as another chunk than the sample.
        ensemble.fill([*sample[:8], *sample[:1]])
        return hardware.timed(lambda: ensemble.fill(sample))


def _timed(inputs: Inputs, rows: Sequence[Row], allowed: Tensor | None) -> tuple[int, float, float]:
    """The student's parameters, and the seconds of training per token and of an update of the weights."""
    model = inputs.start()
    parameters = encoder_parameters(model)
    chosen, clock = inputs.settings, Clock()
    steps = batches.Steps(batches.Labelled(rows, chosen.seed), chosen.batch_size, inputs.tokens, _STEPS + 1)
    arguments = engine.training_arguments(
        None, inputs.precision, max_steps=_STEPS + 1, learning_rate=chosen.learning_rate, max_grad_norm=1.0
    )
    outcome = engine.fit(TaskModel(model, inputs.corpora.task, allowed=allowed), steps, None, arguments, [clock], None)
    return parameters, *clock.timed(outcome, steps).medians()


def _devel_seconds(inputs: Inputs, listener: Listener) -> float:
    """Seconds of scoring devel: after the epochs from the middle on, at the end, and to calibrate."""
    devel = inputs.devel()
    if devel is None:
        return 0.0
    listener.note("Timing a score on devel ...")
    model = inputs.start().to(hardware.torch_device())
    taken = hardware.timed(lambda: devel.outcomes(model))
    epochs = inputs.settings.epochs
    return taken * (epochs - max(1, epochs // 2) + 2 + (inputs.corpora.task in CALIBRATED))
