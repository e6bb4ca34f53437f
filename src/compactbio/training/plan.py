"""What a training run will take: tokens, FLOPs and memory counted, time forecast from a few real steps."""

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from compactbio import corpus as corpora
from compactbio.errors import UserError
from compactbio.modeling import hardware, loading
from compactbio.modeling.families import depth, device_of, encoder_parameters
from compactbio.modeling.hardware import flops_per_token, head_flops
from compactbio.modeling.packing import Packed
from compactbio.objectives.terms import TERMS
from compactbio.progress import Listener, Silent
from compactbio.recipes import Recipe
from compactbio.training import batches, engine, masked_lm, pretraining
from compactbio.training.masked_lm import Masking


@dataclass(frozen=True)
class Timed:
    """Seconds of each step, those of them that the optimiser's update took, and how many tokens the step held."""

    seconds: tuple[float, ...]
    update: tuple[float, ...]
    tokens: tuple[int, ...]


class _Clock(TrainerCallback):  # type: ignore[misc]
    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.update: list[float] = []
        self._last = self._updates = _now()

    def on_pre_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self._updates = _now()

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        ended = _now()
        # From the end of the step before, so that reading and masking its rows count.
        self.seconds.append(ended - self._last)
        self._last = ended
        self.update.append(ended - self._updates)


def _now() -> float:
    if hardware.uses_gpu():
        torch.cuda.synchronize()
    return time.perf_counter()


def time_steps(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    source: batches.Source,
    recipe: Recipe,
    *,
    precision: str,
    tokens_per_batch: int,
    count: int,
) -> Timed:
    """Train `student` in place for one step that warms up and `count` that are timed, and save nothing.

    Steps are of `recipe.batch_size` rows of `source`. Raises UserError where a signal stops it.
    """
    steps = batches.Steps(source, recipe.batch_size, tokens_per_batch, count + 1)
    recipe = recipe.model_copy(update={"steps": count + 1})
    clock = _Clock()
    with TemporaryDirectory() as folder:
        arguments = pretraining.arguments_for(recipe, precision, Path(folder), measures=False, starts=True)
        arguments.save_strategy = "no"
        outcome = engine.distil(student, teacher, steps, [], recipe, arguments, [clock])
    if outcome.stopped:
        raise UserError("Stopped before all steps were timed; start again.")
    tokens = tuple(sum(batch.borders[-1] for batch in steps[i]) for i in range(1, count + 1))
    return Timed(tuple(clock.seconds[1:]), tuple(clock.update[1:]), tokens)


# The share of its data sheet's rate that an accelerator is taken to reach; nothing reaches all of it.
SHARE = 0.4
_SAMPLE = 2000  # rows
_ENOUGH = 10.0  # seconds of timed steps


@dataclass(frozen=True)
class Elsewhere:
    """A run on accelerators, by their data sheet alone: hours at all of its rate, and at `share` of it.

    `memory_bytes` a device is an estimate: weights, gradients, AdamW's moments, and activations after Korthikanti et
    al. 2022 (section 4, without attention maps) of `tokens_per_batch` tokens; `fits` compares it with the device's.
    """

    device: str
    count: int
    hours_at_full_rate: float
    hours: float
    share: float
    tokens_per_batch: int
    memory_bytes: float
    fits: bool


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Counted: `tokens` of all steps, `flops` (two for a product and sum; student three times forward, teacher once).
    Measured on this machine: `tokens_per_second` while training, `memory_bytes`, the peak of a process that trains.
    Forecast from it: `seconds` in all, of which training, measuring on held-out rows, and writing checkpoints.
    """

    recipe: str
    student_parameters: int
    teacher_parameters: int | None
    rows: int
    tokens_per_row: float
    steps: int
    citations: int
    epochs: float
    tokens: float
    flops_per_token: float
    flops: float
    machine: dict[str, Any]
    precision: str
    tokens_per_batch: int
    tokens_per_second: float
    timed_steps: int
    memory_bytes: int
    seconds: float
    training_seconds: float
    heldout_seconds: float
    checkpoint_seconds: float
    elsewhere: tuple[Elsewhere, ...]


def plan(
    recipe: Recipe,
    corpus: str | Path,
    *,
    teacher: str | Path | None = None,
    init: str | Path | None = None,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    devices: Sequence[str] = (),
    listener: Listener | None = None,
) -> Plan:
    """Forecast what `run.train` with the same arguments takes; `devices` as `accelerators.find` reads them.

    Times a few real steps with the real models and rows, of two micro-batches each, and writes nothing but a
    temporary copy of the student. Raises UserError as `run.train` does.
    """
    found = [hardware.find(wanted) for wanted in devices]
    inputs = pretraining.collect(recipe, corpus, teacher, init, precision, tokens_per_batch)
    with loading.quiet():
        return _plan(inputs, found, listener or Silent())


def _plan(inputs: pretraining.Inputs, devices: Sequence[tuple[int, hardware.Accelerator]], listener: Listener) -> Plan:
    recipe, counted = inputs.recipe, inputs.manifest
    splits, tokenizer = corpora.open(inputs.corpus), corpora.tokenizer(inputs.corpus)
    masking = Masking.of(tokenizer, recipe.mlm_probability, recipe.seed)
    source = batches.Masked(splits["train"], masking)
    listener.note("Loading the models ...")
    teacher, student = pretraining.models(inputs)
    parameters = encoder_parameters(student), encoder_parameters(teacher) if teacher else None
    flops = flops_a_token(recipe, student, teacher, _lengths(splits["train"]))
    rows = counted["rows"]["train"]
    mean = counted["tokens"]["train"] / rows
    per_step = recipe.batch_size * mean
    elsewhere = tuple(
        _elsewhere(count, device, flops * per_step * recipe.steps, student, teacher, recipe)
        for count, device in devices
    )
    timed = _timed(inputs, student, teacher, source, mean, listener)
    rate = statistics.median((s - o) / t for s, o, t in zip(timed.seconds, timed.update, timed.tokens, strict=True))
    step = rate * per_step + statistics.median(timed.update)
    held = _heldout(inputs, splits, masking, student, teacher)
    saved = _saving(recipe, student, held=held > 0)
    training = step * recipe.steps
    return Plan(
        recipe=recipe.name,
        student_parameters=parameters[0],
        teacher_parameters=parameters[1],
        rows=rows,
        tokens_per_row=mean,
        steps=recipe.steps,
        citations=recipe.steps * recipe.batch_size,
        epochs=recipe.steps * recipe.batch_size / rows,
        tokens=per_step * recipe.steps,
        flops_per_token=flops,
        flops=flops * per_step * recipe.steps,
        machine={
            "processor": hardware.processor(),
            "device": hardware.device(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        precision=inputs.precision,
        tokens_per_batch=inputs.tokens,
        tokens_per_second=per_step / step,
        timed_steps=len(timed.seconds),
        memory_bytes=hardware.peak(),
        seconds=training + held + saved,
        training_seconds=training,
        heldout_seconds=held,
        checkpoint_seconds=saved,
        elsewhere=elsewhere,
    )


def flops_a_token(
    recipe: Recipe, student: PreTrainedModel, teacher: PreTrainedModel | None, lengths: Sequence[int]
) -> float:
    """Floating-point operations that a token of training needs, on rows of the given `lengths`.

    The student runs three times its forward pass, backward included, the teacher once; heads at masked positions, and
    only where a loss term reads them.
    """
    tokens = sum(lengths)
    # The mean length of the row that a token stands in, and the share of tokens that are masked: not [CLS], not [SEP].
    length = sum(n * n for n in lengths) / tokens
    masked = recipe.mlm_probability * sum(max(n - 2, 0) for n in lengths) / tokens
    terms = [TERMS[term] for term in recipe.loss]
    passes = [(student, 3, any(term.logits for term in terms))]
    if teacher is not None and recipe.kind == "distil":
        passes.append((teacher, 1, any(term.teacher_logits for term in terms)))
    return sum(
        times * (flops_per_token(model.base_model, length) + headed * masked * head_flops(model))
        for model, times, headed in passes
    )


def _lengths(rows: Any) -> list[int]:
    """The lengths of rows spread evenly over a corpus."""
    places = range(0, len(rows), max(1, len(rows) // _SAMPLE))
    return [len(ids) for ids in batches.read_rows(rows, list(places))]


def _timed(
    inputs: pretraining.Inputs,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    source: batches.Masked,
    mean: float,
    listener: Listener,
) -> Timed:
    """Steps of two micro-batches, or of all citations where these are fewer: three, or what ten seconds hold."""
    citations = min(inputs.recipe.batch_size, math.ceil(2 * inputs.tokens / mean))
    recipe = inputs.recipe.model_copy(update={"batch_size": citations})

    def some(count: int) -> Timed:
        listener.note(f"Timing {count} steps of {citations} citations ...")
        return time_steps(
            student,
            teacher,
            source,
            recipe,
            precision=inputs.precision,
            tokens_per_batch=inputs.tokens,
            count=count,
        )

    first = some(3)
    taken = statistics.median(first.seconds)
    return first if 3 * taken >= _ENOUGH / 2 else some(min(100, math.ceil(_ENOUGH / taken)))


def _heldout(
    inputs: pretraining.Inputs,
    splits: Any,
    masking: Masking,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
) -> float:
    """Seconds that measuring on the held-out rows takes over the run, the teacher's once included."""
    if "holdout" not in splits:
        return 0.0
    recipe = inputs.recipe
    held = batches.heldout(splits["holdout"], masking, inputs.tokens)
    times = 1 + math.ceil(recipe.steps / recipe.eval_every)
    bf16 = inputs.precision == "bf16"
    seconds = times * _measuring(student, held, bf16=bf16)
    if teacher is not None and any(TERMS[term].teacher_logits for term in recipe.loss):
        seconds += _measuring(teacher.float(), held, bf16=bf16)
    return seconds


def _measuring(model: PreTrainedModel, held: Sequence[Packed], *, bf16: bool) -> float:
    """Seconds to measure a model on held-out rows, from the middle one of their batches."""
    middle = [held[len(held) // 2].to(device_of(model))]
    taken = []
    for _ in range(2):
        began = time.perf_counter()
        masked_lm.totals(model, middle, bf16=bf16)
        taken.append(time.perf_counter() - began)
    return min(taken) * sum(batch.borders[-1] for batch in held) / middle[0].borders[-1]


def _saving(recipe: Recipe, student: PreTrainedModel, *, held: bool) -> float:
    """Seconds for all checkpoints: weights and AdamW's two moments; and for the best student after a measurement."""
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        student.save_pretrained(folder)
        taken = time.perf_counter() - began
    saves = math.ceil(recipe.steps / recipe.save_every)
    return taken * (3 * saves + held * math.ceil(recipe.steps / recipe.eval_every))


def _elsewhere(
    count: int,
    device: hardware.Accelerator,
    flops: float,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    recipe: Recipe,
) -> Elsewhere:
    hours = flops / (count * device.flops) / 3600
    trained = sum(p.numel() for p in student.parameters())
    width, vocabulary = student.config.hidden_size, student.config.vocab_size
    # Bytes a token: 34 times the width a layer in half precision; logits, their softmax and its gradient in float32.
    a_token = 34 * width * depth(student) + recipe.mlm_probability * vocabulary * 3 * 4
    if teacher is not None:
        trained += sum(p.numel() for p in teacher.parameters()) / 8  # half precision, no gradient, no moments
        a_token += recipe.mlm_probability * vocabulary * 4 + 2 * teacher.config.hidden_size * depth(teacher)
    memory = 16 * trained + hardware.CUDA_TOKENS * a_token
    return Elsewhere(
        device.name, count, hours, hours / SHARE, SHARE, hardware.CUDA_TOKENS, memory, memory < 0.9 * device.memory
    )
