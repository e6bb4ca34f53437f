"""The engine of all training: a module trained in place on steps of packed micro-batches."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from transformers import TrainerCallback, TrainingArguments

from compactbio.modeling import hardware
from compactbio.training.batches import Steps
from compactbio.training.fast_steps import embedding_gradient_in_place, frozen_key_biases, quick_dropout
from compactbio.training.run_folder import step_of
from compactbio.training.step_trainer import StepTrainer, Trainable, Validation


@dataclass(frozen=True)
class Outcome:
    """How a run ended: at which step, and whether a signal stopped it."""

    step: int
    stopped: bool


def fit(
    module: Trainable,
    steps: Steps,
    validation: Validation | None,
    arguments: TrainingArguments,
    callbacks: Sequence[TrainerCallback],
    checkpoint: Path | None,
    *,
    train_key_biases: bool,
) -> Outcome:
    """Train a module in place.

    Args:
        module: what is trained.
        steps: the packed micro-batches of each step.
        validation: how the student is scored and the best one chosen; None where it is not.
        arguments: as of `training_arguments`.
        callbacks: what reports on the training.
        checkpoint: a checkpoint of the same training to resume from.
        train_key_biases: whether the biases of the keys change the loss; else they stay as they are.

    SIGINT and SIGTERM end the training after the step under way, with a checkpoint. Raises UserError where the loss is
    not finite, or the disk is full; the last good checkpoint is kept.
    """
    engine = StepTrainer(module, steps, validation, arguments, callbacks, start=step_of(checkpoint))
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


def training_arguments(checkpoints: Path | None, precision: str, *, max_steps: int, **more: Any) -> TrainingArguments:
    """The Trainer's arguments that all training shares, and `more`; without a folder no checkpoints are written."""
    arguments = TrainingArguments(
        # The Trainer makes this folder in any case.
        output_dir=str(checkpoints or gettempdir()),
        max_steps=max_steps,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        bf16=precision == "bf16",
        use_cpu=not hardware.uses_gpu(),
        save_strategy="no" if checkpoints is None else "steps",
        logging_steps=max(1, min(50, max_steps // 20)),
        logging_first_step=True,
        # The first loss that is not finite ends the run; it must not be averaged away.
        logging_nan_inf_filter=False,
        # A step is a pure function of its number, so nothing has to be skipped.
        ignore_data_skip=True,
        remove_unused_columns=False,
        report_to=[],
        disable_tqdm=True,
        **more,
    )
    # One process takes one device; the Trainer would cut packed rows over all that it sees.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments
