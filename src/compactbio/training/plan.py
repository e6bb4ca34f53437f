"""What a training run will take: tokens, FLOPs and memory are counted, time is forecast from a few real steps."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from compactbio import corpus as corpora
from compactbio.errors import UserError
from compactbio.modeling import hardware, loading
from compactbio.modeling.families import depth, encoder_parameters
from compactbio.modeling.packing import Packed
from compactbio.objectives import attention_width, reads
from compactbio.objectives.terms import TERMS
from compactbio.progress import Listener, listening
from compactbio.recipes import Recipe
from compactbio.training import batches, pretraining, run_folder
from compactbio.training.batches import Masking
from compactbio.training.engine import Outcome, arguments_for, distil, score_heldout


@dataclass(frozen=True)
class Timed:
    """Of each step the seconds, the seconds of the optimiser's update among them, and the tokens."""

    seconds: tuple[float, ...]
    update: tuple[float, ...]
    tokens: tuple[int, ...]

    def medians(self) -> tuple[float, float]:
        """The seconds per token, without the update, and of an update."""
        steps = zip(self.seconds, self.update, self.tokens, strict=True)
        per_token = statistics.median((seconds - update) / tokens for seconds, update, tokens in steps)
        return per_token, statistics.median(self.update)


class Clock(TrainerCallback):  # type: ignore[misc]
    """Takes the seconds of each step, and those of its optimiser's update."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.update: list[float] = []
        self._last = self._updates = hardware.now()

    def on_pre_optimizer_step(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        self._updates = hardware.now()

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        ended = hardware.now()
        # From the end of the step before, so that reading and masking its rows count.
        self.seconds.append(ended - self._last)
        self._last = ended
        self.update.append(ended - self._updates)

    def timed(self, outcome: Outcome, steps: batches.Steps) -> Timed:
        """All steps but the first, which warms up. Raises UserError where a signal stopped them."""
        if outcome.stopped:
            raise UserError("Stopped before all steps were timed; start again.")
        tokens = tuple(sum(batch.borders[-1] for batch in steps[i]) for i in range(1, len(steps)))
        return Timed(tuple(self.seconds[1:]), tuple(self.update[1:]), tokens)


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

    Steps are of `recipe.batch_size` rows. Raises UserError where a signal stops it.
    """
    steps = batches.Steps(source, recipe.batch_size, tokens_per_batch, count + 1)
    recipe = recipe.model_copy(update={"steps": count + 1, "head_steps": 0})
    clock = Clock()
    arguments = arguments_for(recipe, precision, None, validates=False, starts=True)
    return clock.timed(distil(student, teacher, steps, recipe, arguments=arguments, callbacks=[clock]), steps)


# The share of its data sheet's rate that an accelerator is taken to reach; none reaches all of it.
SHARE = 0.4
_SAMPLE = 2000  # rows
_ENOUGH = 10.0  # seconds of timed steps


@dataclass(frozen=True)
class Elsewhere:
    """A run on `count` accelerators, by their data sheet alone.

    Attributes:
        hours_at_full_rate: hours at all of the rate that the data sheet names.
        hours: hours at `share` of it, which is taken to be reached.
        tokens_per_batch: tokens per micro-batch on a device.
        memory_bytes: an estimate per device: weights, gradients, AdamW's moments, and activations after Korthikanti et
            al. 2022 (section 4, without attention maps).
        fits: whether the device has that memory.
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
    """What a run will take: counted, then measured on this machine, then forecast.

    Attributes:
        tokens: of all steps.
        flops: of all steps, two for a product and its sum; student three times forward, teacher once.
        tokens_per_second: while training, measured.
        memory_bytes: the peak of a process that trains, measured.
        seconds: of the run in all, which are
        training_seconds, heldout_seconds and checkpoint_seconds: training, scoring held-out rows, writing checkpoints.
        elsewhere: the same run on other devices.
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
    recipe: Recipe, corpus: str | Path, *, devices: Sequence[str] = (), listener: Listener | None = None, **options: Any
) -> Plan:
    """Forecast what `pretraining.train` with the same arguments takes.

    Times a few real steps with the real models and rows, of two micro-batches each; nothing is kept of them.

    Args:
        recipe, corpus, **options: as for `pretraining.collect`.
        devices: accelerators to estimate for, as `hardware.find` reads them ("8xH100").
        listener: gets a sentence on what is being done.

    Raises UserError as `pretraining.train` does.
    """
    run_folder.refuse_several("A forecast")
    found = [hardware.find(wanted) for wanted in devices]
    inputs = pretraining.collect(recipe, corpus, **options)
    with loading.quiet():
        return _plan(inputs, found, listening(listener))


def _plan(inputs: pretraining.Inputs, devices: Sequence[tuple[int, hardware.Accelerator]], listener: Listener) -> Plan:
    recipe = inputs.recipe
    splits, tokenizer = corpora.open(inputs.corpus), corpora.tokenizer(inputs.corpus)
    masking = Masking.of(tokenizer, recipe.mlm_probability, recipe.seed)
    held = batches.heldout_batches(splits["holdout"], masking, inputs.tokens) if "holdout" in splits else []
    listener.note("Loading the models ...")
    teacher, student, _ = pretraining.models(inputs)
    # Counted before the models are trained.
    parameters, teachers = encoder_parameters(student), encoder_parameters(teacher) if teacher else None
    rows = inputs.manifest["rows"]["train"]
    tokens_per_row = inputs.manifest["tokens"]["train"] / rows
    tokens_per_step = recipe.batch_size * tokens_per_row
    flops_per_token = training_flops_per_token(recipe, student, teacher, _lengths(splits["train"]))
    flops = flops_per_token * tokens_per_step * recipe.steps
    elsewhere = tuple(_elsewhere(count, device, flops, student, teacher, recipe) for count, device in devices)
    timed = _timed(inputs, student, teacher, batches.Masked(splits["train"], masking), tokens_per_row, listener)
    seconds_per_token, update = timed.medians()
    seconds_per_step = seconds_per_token * tokens_per_step + update
    training = seconds_per_step * recipe.steps
    heldout = _heldout_seconds(inputs, held, student, teacher)
    saving = _checkpoint_seconds(recipe, student, keeps_best=heldout > 0)
    return Plan(
        recipe=recipe.name,
        student_parameters=parameters,
        teacher_parameters=teachers,
        rows=rows,
        tokens_per_row=tokens_per_row,
        steps=recipe.steps,
        citations=recipe.steps * recipe.batch_size,
        epochs=recipe.steps * recipe.batch_size / rows,
        tokens=tokens_per_step * recipe.steps,
        flops_per_token=flops_per_token,
        flops=flops,
        machine=hardware.machine(),
        precision=inputs.precision,
        tokens_per_batch=inputs.tokens,
        tokens_per_second=tokens_per_step / seconds_per_step,
        timed_steps=len(timed.seconds),
        memory_bytes=hardware.peak(),
        seconds=training + heldout + saving,
        training_seconds=training,
        heldout_seconds=heldout,
        checkpoint_seconds=saving,
        elsewhere=elsewhere,
    )


def training_flops_per_token(
    recipe: Recipe, student: PreTrainedModel, teacher: PreTrainedModel | None, lengths: Sequence[int]
) -> float:
    """Floating-point operations per token of training.

    The student takes three times its forward pass, backward included, the teacher once; heads run at masked positions,
    and only where a loss term reads them. A term that compares attention multiplies each pair of tokens of a citation
    once for the teacher and three times for the student, twice of them for the gradient.

    Args:
        lengths: of the rows, in tokens.
    """
    tokens = sum(lengths)
    # The mean length of a token's row, and the share of tokens that are masked, never [CLS] and [SEP].
    length = sum(n * n for n in lengths) / tokens
    masked = recipe.mlm_probability * sum(max(n - 2, 0) for n in lengths) / tokens
    passes = [(student, 3, reads(recipe, "logits"))]
    if teacher is not None and recipe.kind == "distil":
        passes.append((teacher, 1, reads(recipe, "teacher_logits")))
    forward = sum(
        times * (hardware.flops_per_token(model.base_model, length) + headed * masked * hardware.head_flops(model))
        for model, times, headed in passes
    )
    if teacher is None:
        return forward
    # Maps per citation: one per layer, or those of queries, keys and values.
    parts = [part for term in recipe.loss for part in TERMS[term][1]]
    maps = depth(student) * parts.count("attentions") + 3 * parts.count("relations")
    return forward + maps * 2 * length * (3 * attention_width(student) + attention_width(teacher))


def _lengths(rows: Any) -> list[int]:
    """The lengths of rows spread evenly over a corpus."""
    return [len(ids) for ids in batches.read_rows(rows, range(0, len(rows), max(1, len(rows) // _SAMPLE)))]


def _timed(
    inputs: pretraining.Inputs,
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    source: batches.Source,
    tokens_per_row: float,
    listener: Listener,
) -> Timed:
    """Steps of two micro-batches, or of all citations where these are fewer: three, or as many as ten seconds hold."""
    citations = min(inputs.recipe.batch_size, math.ceil(2 * inputs.tokens / tokens_per_row))
    recipe = inputs.recipe.model_copy(update={"batch_size": citations})

    def some(count: int) -> Timed:
        listener.note(f"Timing {count} steps of {citations} citations ...")
        return time_steps(
            student, teacher, source, recipe, precision=inputs.precision, tokens_per_batch=inputs.tokens, count=count
        )

    first = some(3)
    taken = statistics.median(first.seconds)
    return first if 3 * taken >= _ENOUGH / 2 else some(min(100, math.ceil(_ENOUGH / taken)))


def _heldout_seconds(
    inputs: pretraining.Inputs, held: Sequence[Packed], student: PreTrainedModel, teacher: PreTrainedModel | None
) -> float:
    """Seconds for scoring the held-out rows over the run, the teacher once."""
    if not held:
        return 0.0
    recipe = inputs.recipe
    middle = held[len(held) // 2]
    share = sum(batch.borders[-1] for batch in held) / middle.borders[-1]
    # By model how often it is scored.
    scored = {student: 1 + math.ceil(recipe.steps / recipe.eval_every)}
    if teacher is not None and reads(recipe, "teacher_logits"):
        scored[teacher.float()] = 1
    bf16 = inputs.precision == "bf16"
    calls = {model: partial(score_heldout, model, [middle], bf16=bf16) for model in scored}
    return sum(scored[model] * min(taken) * share for model, taken in hardware.time_in_turns(calls, 2).items())


def _checkpoint_seconds(recipe: Recipe, student: PreTrainedModel, *, keeps_best: bool) -> float:
    """Seconds for all checkpoints, of weights and AdamW's two moments, and for the best student where it is kept."""
    with TemporaryDirectory() as folder:
        taken = hardware.timed(lambda: student.save_pretrained(folder))
    saves = math.ceil(recipe.steps / recipe.save_every)
    return taken * (3 * saves + keeps_best * math.ceil(recipe.steps / recipe.eval_every))


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
    # Bytes per token: 34 times the width per layer in half precision; logits, softmax and gradient in float32.
    a_token = 34 * width * depth(student) + recipe.mlm_probability * vocabulary * 3 * 4
    if teacher is not None:
        trained += sum(p.numel() for p in teacher.parameters()) / 8  # half precision, no gradient, no moments
        a_token += recipe.mlm_probability * vocabulary * 4 + 2 * teacher.config.hidden_size * depth(teacher)
    memory = 16 * trained + hardware.CUDA_TOKENS * a_token
    return Elsewhere(
        device.name, count, hours, hours / SHARE, SHARE, hardware.CUDA_TOKENS, memory, memory < 0.9 * device.memory
    )
