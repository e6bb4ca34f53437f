"""transformers' Trainer, changed so that its batch is one optimiser step: a list of packed micro-batches."""

import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainingArguments

from compactbio.errors import UserError
from compactbio.files import publish
from compactbio.modeling.packing import Packed
from compactbio.objectives import Counts, Losses, labelled
from compactbio.processes import give_back_memory
from compactbio.training.batches import Steps
from compactbio.training.run_folder import best, checkpoints, keep_best, refusing_full_disk, seal, step_of

_GIVE_BACK_SECONDS = 20.0


class Trainable(Protocol):
    """A module that the engine trains.

    Its forward takes a packed `batch`, the places `at` of its labels and the `counts` of the step, and returns the
    `Losses`, each divided by its count.
    """

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
class Validation:
    """How the student is scored as it trains, and by which `metric` the best one is kept.

    `scores` is called on every process and returns the same numbers on all of them.
    """

    scores: Callable[[PreTrainedModel], dict[str, float]]
    metric: str
    greater_is_better: bool

    def better(self, metrics: dict[str, float], kept: dict[str, float]) -> bool:
        """Whether a student with these metrics is better than the one that is kept."""
        new, old = metrics[self.metric], kept[self.metric]
        return new > old if self.greater_is_better else new < old


class StepTrainer(Trainer):  # type: ignore[misc]
    """Trains a Trainable; a batch is one optimiser step as a list of packed micro-batches."""

    control: TrainerControl

    def __init__(
        self,
        module: Trainable,
        steps: Steps,
        validation: Validation | None,
        arguments: TrainingArguments,
        callbacks: Sequence[TrainerCallback],
        start: int,
    ) -> None:
        watching = [_LastStep(self), *callbacks]
        # The Trainer asks for data to evaluate on; the validation has its own.
        super().__init__(module, arguments, train_dataset=steps, eval_dataset=[], callbacks=watching)
        self.remove_callback(PrinterCallback)
        self._start, self._validation = start, validation
        self._folder = Path(arguments.output_dir)
        self._partial = self._folder / ".partial"
        self._window = _Window()
        self._bad_step = torch.tensor(-1, device=arguments.device)
        self._gave_back = time.monotonic()
        self._stop = self.stopped = False

    def get_train_dataloader(self) -> DataLoader[list[Packed]]:
        """The steps that are left; each process makes its own share, so nothing is left to shard."""
        todo = range(self._start, len(self.train_dataset))
        # Its own generator: the loader must not draw from the one of dropout.
        workers, own = self.args.dataloader_num_workers, torch.Generator()
        return _StepLoader(self.train_dataset, batch_size=None, sampler=todo, num_workers=workers, generator=own)

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
                    # Places are found on the host, which would have to wait for the device otherwise.
                    at = labelled(batch).to(self.args.device, non_blocking=True)
                    part: Losses = model(batch=batch.to(self.args.device), at=at, counts=counts)
                # Gradients are averaged over processes, while the counts are already those of all.
                self.accelerator.backward(part.loss * world)
            losses.append({name: term.detach() * world for name, term in part.terms.items()})
        terms = {name: torch.stack([part[name] for part in losses]).sum() for name in losses[0]}
        loss = torch.stack(list(terms.values())).sum()
        self._note_bad(loss)
        self._window.add(terms, counts.tokens)
        if time.monotonic() - self._gave_back > _GIVE_BACK_SECONDS:
            give_back_memory()
            self._gave_back = time.monotonic()
        return loss

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Score the student, log its metrics, and keep it where it is the best so far."""
        assert self._validation is not None
        started = time.perf_counter()
        student = self._module.student
        self._refuse_bad()
        metrics = self._validation.scores(student)
        if not math.isfinite(metrics[self._validation.metric]):
            raise _bad_loss(self.state.global_step)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        if self.args.should_save and self.args.save_strategy != "no":
            kept = best(self._folder)
            if kept is None or self._validation.better(metrics, kept):
                keep_best(self._folder, student, metrics, self.state.global_step)
        self._window.leave_out(started)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the terms, the epoch and the speed since the last line to a line of training."""
        steps: Steps = self.train_dataset
        self.state.epoch = self.state.global_step * steps.batch_size / len(steps.rows)
        if "loss" in logs:
            self._refuse_bad()
            if not all(map(math.isfinite, (logs["loss"], logs.get("grad_norm", 0.0)))):
                raise _bad_loss(self.state.global_step)
            terms, tokens_per_second = self._window.means()
            self._window = _Window()
            if terms:
                values = self.accelerator.reduce(torch.stack(list(terms.values())), "mean").tolist()
                logs |= dict(zip(terms, values, strict=True))
            logs["tokens_per_second"] = tokens_per_second
        super().log(logs, start_time)

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Within it the first SIGINT or SIGTERM asks for a checkpoint and an end, a second SIGINT ends at once.

        Only the main thread may handle signals, so a run in another thread does not.
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

    def asked_within_the_step(self) -> bool:
        """Whether a request to stop came within the step that ends; several processes share it at the next one."""
        if self._stop and self.accelerator.num_processes == 1:
            self.stopped = True
        return self.stopped

    @property
    def _module(self) -> Trainable:
        module: Trainable = self.accelerator.unwrap_model(self.model)
        return module

    def _totals(self, batches: list[Packed]) -> Counts:
        """The counts of the step over all processes; a request to stop is shared too, so that all stop together."""
        counts = [self._module.counts(batch) for batch in batches]
        sums = [*(float(sum(column)) for column in zip(*counts, strict=True)), float(self._stop)]
        if self.accelerator.num_processes > 1:
            # The only wait of a step, before its first forward pass.
            shared = torch.tensor(sums, dtype=torch.float64, device=self.args.device)
            torch.distributed.all_reduce(shared)
            sums = shared.tolist()
        *totals, stop = sums
        self.stopped = stop > 0
        if self.stopped:
            self.control.should_training_stop = True
        return Counts(*totals).at_least_one()

    # -- checkpoints: written beside their place, and moved there when they are complete

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._partial)

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        started = time.perf_counter()
        self._refuse_bad()
        if not all(bool(torch.isfinite(p).all()) for p in self.model.parameters()):
            raise _bad_loss(self.state.global_step)
        name = f"checkpoint-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(self._partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        with refusing_full_disk(self._folder):
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                seal(self._partial / name, self.args.world_size, self._folder)
                publish(self._partial / name, self._folder / name)
        if self.args.should_save:
            shutil.rmtree(self._partial, ignore_errors=True)
            # Those of later steps were refused when the run was resumed; it will write them again.
            written = [path for path in checkpoints(self._folder) if step_of(path) <= self.state.global_step]
            for old in written[:-2]:
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()
        self._window.leave_out(started)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        self._module.save(Path(output_dir or self._folder))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        try:
            self._module.load(Path(resume_from_checkpoint))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise UserError(
                f"{resume_from_checkpoint} holds the weights of another model than this run trains: delete it, or "
                "choose another output folder.",
                setting="out",
            ) from error

    # -- a loss that is not finite

    def _note_bad(self, loss: Tensor) -> None:
        # Kept on the device, so that a step waits for nothing; read when something is logged or saved.
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
    """Has the length of the whole run, also where it starts later: the Trainer counts epochs by it."""

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]


class _LastStep(TrainerCallback):  # type: ignore[misc]
    """Scores and logs at the last step, wherever the intervals fall, and saves where the run is asked to stop."""

    def __init__(self, trainer: "StepTrainer") -> None:
        self._trainer = trainer

    def on_step_end(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < state.max_steps and self._trainer.asked_within_the_step():
            control.should_training_stop = True
        if state.global_step >= state.max_steps:
            control.should_log = True
            control.should_evaluate = args.eval_strategy != "no"
        elif control.should_training_stop:
            control.should_log, control.should_save = True, args.save_strategy != "no"


class _Window:
    """Sums over the steps since the last line of the log."""

    def __init__(self) -> None:
        self.terms: dict[str, Tensor] = {}
        self.steps, self.tokens, self.since = 0, 0.0, time.perf_counter()

    def add(self, terms: dict[str, Tensor], tokens: float | Tensor) -> None:
        """Add one step."""
        self.terms = {name: self.terms.get(name, 0) + term for name, term in terms.items()}
        self.steps += 1
        self.tokens += float(tokens)

    def leave_out(self, started: float) -> None:
        """Do not count the time since `started`."""
        self.since += time.perf_counter() - started

    def means(self) -> tuple[dict[str, Tensor], float]:
        """The mean of each term per step, and the tokens per second."""
        speed = self.tokens / (time.perf_counter() - self.since)
        return {name: term / self.steps for name, term in self.terms.items()}, speed


def _bad_loss(step: int) -> UserError:
    return UserError(
        f"The loss is not finite at step {step}; the last good checkpoint is kept: lower learning_rate or train in "
        "fp32, in a new output folder."
    )
