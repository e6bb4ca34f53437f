"""The engine: `fit` on a subclass of transformers' Trainer that takes one whole optimiser step a batch; `distil`."""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
)

from compactbio.errors import UserError
from compactbio.files import publish
from compactbio.modeling.packing import Packed
from compactbio.objectives import Counts, Distiller, Losses, labelled
from compactbio.recipes import LossTerm, Recipe
from compactbio.training import masked_lm
from compactbio.training.batches import Steps
from compactbio.training.fast_steps import embedding_gradient_in_place, frozen_key_biases, quick_dropout
from compactbio.training.run_folder import checkpoints, keep_best, refusing_full_disk, seal, step_of


class Trainable(Protocol):
    """A module that the engine trains: its forward gives the `Losses` of a packed `batch`, labelled `at` its places,
    each divided by its one of `counts`."""

    student: PreTrainedModel

    def counts(self, batch: Packed) -> Counts:
        """What the terms of a micro-batch are divided by, before it is added up over the step."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that is trained into a folder."""
        ...

    def load(self, folder: Path) -> None:
        """Read what `save` wrote, strictly."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended: at which step, and whether a signal stopped it."""

    step: int
    stopped: bool


@dataclass(frozen=True)
class Examination:
    """What is measured of the student as it trains, and by which number the best one is kept.

    `measure` is called on every process and gives all of them the same numbers.
    """

    measure: Callable[[PreTrainedModel], dict[str, float]]
    metric: str
    greater_is_better: bool

    def better(self, metrics: dict[str, float], kept: dict[str, float]) -> bool:
        """Whether a student with these metrics is better than the one that is kept."""
        new, old = metrics[self.metric], kept[self.metric]
        return new > old if self.greater_is_better else new < old


def distil(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    steps: Steps,
    heldout: Sequence[Packed],
    recipe: Recipe,
    arguments: TrainingArguments,
    callbacks: Sequence[TrainerCallback] = (),
    checkpoint: Path | None = None,
) -> Outcome:
    """Train `student` in place for `recipe.steps`, from `checkpoint` on where one is given.

    Checkpoints go to `arguments.output_dir`; the student with the lowest held-out loss is kept in its folder `best`.
    SIGINT and SIGTERM end the run after the step under way, with a checkpoint. Raises UserError where the loss is no
    number, or the disk is full; the last good checkpoint stays.
    """
    distiller = Distiller(student, teacher, recipe)
    if distiller.teacher is not None:
        distiller.teacher.to(arguments.device, torch.bfloat16 if arguments.bf16 else torch.float32)
    examination = Examination(
        lambda model: _heldout_metrics(model, heldout, arguments), "heldout_loss", greater_is_better=False
    )
    raw_scores = LossTerm.ATTENTION_MSE in recipe.loss and recipe.attention_mse_of == "scores"
    return fit(distiller, steps, examination, arguments, callbacks, checkpoint, train_key_biases=raw_scores)


def fit(
    module: Trainable,
    steps: Steps,
    examination: Examination | None,
    arguments: TrainingArguments,
    callbacks: Sequence[TrainerCallback],
    checkpoint: Path | None,
    *,
    train_key_biases: bool,
) -> Outcome:
    """Train a module in place, whatever it computes; see `distil` for signals, checkpoints and errors."""
    engine = StepTrainer(module, steps, examination, arguments, callbacks, start=step_of(checkpoint))
    with ExitStack() as stack:
        stack.enter_context(engine.signals())
        if not train_key_biases:
            stack.enter_context(frozen_key_biases(module.student))
        if arguments.device.type == "cpu":
            stack.enter_context(quick_dropout(module.student))
            if arguments.world_size == 1:
                stack.enter_context(embedding_gradient_in_place(module.student))
        engine.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return Outcome(engine.state.global_step, engine.stopped)


def _heldout_metrics(
    model: PreTrainedModel, batches: Sequence[Packed], arguments: TrainingArguments
) -> dict[str, float]:
    sums = masked_lm.totals(model, batches, bf16=arguments.bf16).to(arguments.device)
    if arguments.world_size > 1:
        torch.distributed.all_reduce(sums)
    result = masked_lm.heldout(sums.cpu())
    return {"heldout_loss": result.loss, "heldout_accuracy": result.accuracy}


class StepTrainer(Trainer):  # type: ignore[misc]
    """Trainer of a Trainable, whose batch is a whole optimiser step as a list of packed micro-batches."""

    control: TrainerControl

    def __init__(
        self,
        module: Trainable,
        steps: Steps,
        examination: Examination | None,
        arguments: TrainingArguments,
        callbacks: Sequence[TrainerCallback],
        start: int,
    ) -> None:
        super().__init__(
            model=module,
            args=arguments,
            train_dataset=steps,
            # Trainer asks for one; what is examined is the examination's own affair.
            eval_dataset=[],
            callbacks=[_LastStep(), *callbacks],
        )
        self.remove_callback(PrinterCallback)
        self._start = start
        self._examination = examination
        self._stop = False
        self._window = _Window()
        self._bad_step = torch.tensor(-1, device=arguments.device)
        self.stopped = False

    def get_train_dataloader(self) -> DataLoader[list[Packed]]:
        """The steps still to do; each process makes its own share, so nothing is left to shard."""
        todo = range(self._start, len(self.train_dataset))
        # Its own generator: the loader must not draw from the one that dropout does.
        return _StepLoader(
            self.train_dataset,
            batch_size=None,
            sampler=todo,
            num_workers=self.args.dataloader_num_workers,
            generator=torch.Generator(),
        )

    def training_step(self, model: torch.nn.Module, inputs: list[Packed], _: Any = None) -> Tensor:
        """Forward and backward over the micro-batches of one step, each term divided by its count over the step."""
        model.train()
        counts = self._totals(inputs)
        world = self.accelerator.num_processes
        losses = []
        for i, batch in enumerate(inputs):
            last = i == len(inputs) - 1
            with nullcontext() if last else self.accelerator.no_sync(model):
                with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
                    # Places are found on the host: the device would have to be waited for.
                    at = labelled(batch).to(self.args.device, non_blocking=True)
                    part: Losses = model(batch=batch.to(self.args.device), at=at, counts=counts)
                # Gradients are averaged over processes, while the counts are already those of all.
                self.accelerator.backward(part.loss * world)
            losses.append({name: term.detach() * world for name, term in part.terms.items()})
        terms = {name: torch.stack([part[name] for part in losses]).sum() for name in losses[0]}
        loss = torch.stack(list(terms.values())).sum()
        self._note_bad(loss)
        self._window.add(terms, counts.tokens)
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The examination's metrics, logged; the best student so far is kept."""
        assert self._examination is not None
        started = time.perf_counter()
        student = self._module.student
        self._refuse_bad()
        metrics = self._examination.measure(student)
        if not _finite(metrics[self._examination.metric]):
            raise _bad_loss(self.state.global_step)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.args.should_save:
            keep_best(Path(self.args.output_dir), student, self._examination.better, metrics, self.state.global_step)
        self._window.leave_out(time.perf_counter() - started)
        return metrics

    @property
    def _module(self) -> Trainable:
        module: Trainable = self.accelerator.unwrap_model(self.model)
        return module

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms, the epoch and the speed since the last line to a line of training."""
        steps: Steps = self.train_dataset
        self.state.epoch = self.state.global_step * steps.batch_size / len(steps.rows)
        if "loss" in logs:
            self._refuse_bad()
            if not all(map(_finite, (logs["loss"], logs.get("grad_norm", 0.0)))):
                raise _bad_loss(self.state.global_step)
            terms, tokens_per_second = self._window.drain()
            if terms:
                values = self.accelerator.reduce(torch.stack(list(terms.values())), "mean").tolist()
                logs |= dict(zip(terms, values, strict=True))
            logs["tokens_per_second"] = tokens_per_second
        super().log(logs, start_time)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Within it the first SIGINT or SIGTERM asks for a checkpoint and an end, a second SIGINT ends at once.

        Python hands signals to the main thread alone, so a run in another thread is not asked.
        """

        def ask(number: int, _: FrameType | None) -> None:
            if self._stop and number == signal.SIGINT:
                raise KeyboardInterrupt
            self._stop = True

        main = threading.current_thread() is threading.main_thread()
        kinds = (signal.SIGINT, signal.SIGTERM) if main else ()
        before = [signal.signal(kind, ask) for kind in kinds]
        try:
            yield
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)

    def _totals(self, batches: list[Packed]) -> Counts:
        """The counts of the step over all processes; a wish to stop travels with them, so that all stop together."""
        own = [self._module.counts(batch) for batch in batches]
        sums = [sum(float(count) for count in column) for column in zip(*own, strict=True)]
        masked, tokens, pairs, stop = *sums, float(self._stop)
        if self.accelerator.num_processes > 1:
            # The one wait of a step, before its first forward pass.
            shared = torch.tensor([masked, tokens, pairs, stop], dtype=torch.float64, device=self.args.device)
            torch.distributed.all_reduce(shared)
            masked, tokens, pairs, stop = shared.tolist()
        self.stopped = stop > 0
        if self.stopped:
            self.control.should_training_stop = True
        return Counts(masked, tokens, pairs).at_least_one()

    # -- checkpoints: written aside, named when whole

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._partial)

    @property
    def _partial(self) -> Path:
        return Path(self.args.output_dir) / ".partial"

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        started = time.perf_counter()
        self._refuse_bad()
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise _bad_loss(self.state.global_step)
        name = f"checkpoint-{self.state.global_step}"
        whole = Path(self.args.output_dir) / name
        if self.args.should_save:
            shutil.rmtree(self._partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        with refusing_full_disk(Path(self.args.output_dir)):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                seal(self._partial / name, self.args.world_size)
                publish(self._partial / name, whole)
        if self.args.should_save:
            shutil.rmtree(self._partial, ignore_errors=True)
            # Those of later steps are refused ones, which the run has yet to write again.
            done = [one for one in checkpoints(Path(self.args.output_dir)) if step_of(one) <= self.state.global_step]
            for old in done[:-2]:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()
        self._window.leave_out(time.perf_counter() - started)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        self._module.save(Path(output_dir or self.args.output_dir))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        try:
            self._module.load(Path(resume_from_checkpoint))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"{resume_from_checkpoint} holds the weights of another model than this run trains: delete it, or "
                "choose another --out."
            ) from error

    # -- a loss that is no number

    def _note_bad(self, loss: Tensor) -> None:
        # On the device, so that a step waits for nothing; read when something is logged or saved.
        first = (self._bad_step < 0) & ~torch.isfinite(loss)
        self._bad_step = torch.where(first, self.state.global_step + 1, self._bad_step)
        if not loss.is_cuda:
            self._refuse_bad()

    def _refuse_bad(self) -> None:
        # All processes together, so that all stop with the same sentence.
        if self.accelerator.num_processes > 1:
            torch.distributed.all_reduce(self._bad_step, torch.distributed.ReduceOp.MAX)
        step = int(self._bad_step)
        if step >= 0:
            raise _bad_loss(step)


class _StepLoader(DataLoader[list[Packed]]):
    """Says the length of the whole run, also where it starts later: Trainer counts epochs by it."""

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]


class _LastStep(TrainerCallback):  # type: ignore[misc]
    """Measures and logs at the last step, wherever the intervals fall, and saves where the run is asked to stop."""

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"
        elif control.should_training_stop:
            control.should_log = control.should_save = True


class _Window:
    """What happened since the last line of the log."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.terms: dict[str, Tensor] = {}
        self.steps, self.tokens, self.since = 0, 0.0, time.perf_counter()

    def add(self, terms: dict[str, Tensor], tokens: float | Tensor) -> None:
        """Take in one step."""
        self.terms = {name: self.terms.get(name, 0) + term for name, term in terms.items()}
        self.steps += 1
        self.tokens += float(tokens)

    def leave_out(self, seconds: float) -> None:
        """Let some time since the last line not count."""
        self.since += seconds

    def drain(self) -> tuple[dict[str, Tensor], float]:
        """The mean of each term a step and the tokens a second; then it starts anew."""
        terms = {name: term / self.steps for name, term in self.terms.items()}
        speed = self.tokens / (time.perf_counter() - self.since)
        self._reset()
        return terms, speed


def _finite(value: float) -> bool:
    return value - value == 0.0


def _bad_loss(step: int) -> UserError:
    return UserError(
        f"The loss is no finite number any more at step {step}; the last good checkpoint is kept: lower the learning "
        "rate (--set learning_rate=...) or use --precision fp32, in a new --out."
    )
