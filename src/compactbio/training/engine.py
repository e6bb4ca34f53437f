"""The engine of all training: a model in memory, trained in place on steps of packed micro-batches."""

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

import torch
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from compactbio.errors import UserError
from compactbio.modeling import hardware
from compactbio.modeling.families import depth, device_of, mlm_logits
from compactbio.modeling.packing import Packed, encode
from compactbio.modeling.sharing import evaluating
from compactbio.objectives import Distiller, labelled, reads
from compactbio.objectives.terms import mlm
from compactbio.processes import reusing_memory
from compactbio.recipes import LossTerm, Recipe
from compactbio.training.batches import Steps
from compactbio.training.fast_steps import embedding_gradient_in_place, frozen_key_biases, quick_dropout
from compactbio.training.run_folder import step_of
from compactbio.training.step_trainer import StepTrainer, Trainable, Validation

# What `accelerate launch` sets where one model is shared among devices.
# What the Trainer reads of the environment, whatever its own arguments say.
_READ_BY_THE_TRAINER = ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_DYNAMO_BACKEND")
_CUTS_MODELS = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM")


_LOST_WORKER = (
    "A process that prepares batches ended, most likely for lack of memory, or of shared memory (/dev/shm; in Docker "
    "--shm-size): run the same command again with --resume, the last checkpoint is kept."
)


class Outcome(NamedTuple):
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
    keys_read: Collection[int] = (),
) -> Outcome:
    """Train a module in place, from a checkpoint of the same training where there is one.

    Args:
        validation: how the student is scored and the best one chosen; None where it is not.
        arguments: as for `training_arguments`.
        keys_read: the student's 0-based layers whose key biases change the loss; those of others stay as they are.

    SIGINT and SIGTERM end the training after the step under way, with a checkpoint. Raises UserError where the loss is
    not finite, the disk is full, or a process that prepares batches ended; the last good checkpoint is kept.
    """
    with ExitStack() as stack:
        stack.enter_context(_launched("bf16" if arguments.bf16 else "fp32"))
        engine = StepTrainer(module, steps, validation, arguments, callbacks, start=step_of(checkpoint))
        stack.enter_context(engine.signals())
        stack.enter_context(frozen_key_biases(module.student, keys_read))
        if arguments.device.type == "cpu":
            stack.enter_context(reusing_memory())
            stack.enter_context(quick_dropout(module.student))
            if arguments.world_size == 1:
                stack.enter_context(embedding_gradient_in_place(module.student))
        try:
            engine.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise UserError(_LOST_WORKER) from error
    return Outcome(engine.state.global_step, engine.stopped)


def training_arguments(checkpoints: Path | None, precision: str, *, max_steps: int, **more: Any) -> TrainingArguments:
    """The Trainer's arguments that all training shares, and `more`; without a folder no checkpoints are written.

    Raises UserError where `accelerate launch` is set to share one model among devices.
    """
    with _launched(precision):
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


@contextmanager
def _launched(precision: str) -> Iterator[None]:
    """Within it the processes of `accelerate launch` are taken, and none of its settings that would make another run of
    this one; afterwards they are as they were."""
    for name in _CUTS_MODELS:
        if os.environ.get(name, "false").lower() in ("1", "true", "yes"):
            raise UserError(
                f"{name} is set, but a student fits on one device and is not shared among several: launch with "
                "--multi_gpu, or with torchrun."
            )
    before = {name: os.environ.pop(name, None) for name in _READ_BY_THE_TRAINER}
    os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16" if precision == "bf16" else "no"
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def distil(
    student: PreTrainedModel,
    teacher: PreTrainedModel | None,
    batches: Steps,
    recipe: Recipe,
    *,
    heldout: Sequence[Packed] = (),
    arguments: TrainingArguments | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    checkpoint: Path | None = None,
) -> Outcome:
    """Train a student in place, for the steps of its batches.

    Args:
        student: the model to train, as for `modeling.build_student`.
        teacher: the model that it learns from; None where no loss term reads one.
        batches: the packed micro-batches of each step.
        recipe: the loss and the optimisation.
        heldout: held-out rows that choose the best student, where `arguments` ask for it.
        arguments: as for `arguments_for`, where checkpoints are written; by default none are, in float32.
        callbacks: what reports on the training.
        checkpoint: a checkpoint of the same training to resume from.

    Ends early, and raises UserError, as `fit` does, and where the two models do not fit the loss.
    """
    if arguments is None:
        recipe = recipe.model_copy(update={"steps": len(batches)})
        arguments = arguments_for(recipe, "fp32", None, validates=False, starts=True)
    distiller = Distiller(student, teacher, recipe)
    if distiller.teacher is not None:
        distiller.teacher.to(arguments.device, torch.bfloat16 if arguments.bf16 else torch.float32)

    def scores(model: PreTrainedModel) -> dict[str, float]:
        found = score_heldout(model, heldout, bf16=arguments.bf16)
        return {"heldout_loss": found.loss, "heldout_accuracy": found.accuracy}

    validation = Validation(scores, "heldout_loss", greater_is_better=False)
    keys_read = _keys_read(recipe, depth(student))
    head_first = _HeadFirst(student.base_model, recipe.head_steps)
    try:
        return fit(distiller, batches, validation, arguments, [*callbacks, head_first], checkpoint, keys_read=keys_read)
    finally:
        head_first.train(True)


class Heldout(NamedTuple):
    """`loss` in nats per masked token, `accuracy` in [0, 1], over `masked` tokens."""

    loss: float
    accuracy: float
    masked: int


def score_heldout(model: PreTrainedModel, batches: Sequence[Packed], *, bf16: bool) -> Heldout:
    """A model on held-out rows, over the batches of all processes; its mode is left as it was.

    Args:
        model: a masked-LM model.
        batches: this process's share of the masked rows.
        bf16: whether to compute under autocast, as training in that precision does.
    """
    device = device_of(model)
    sums = torch.zeros(3, dtype=torch.float64, device=device)  # loss, right, masked
    last = depth(model)
    with evaluating(model), torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        for batch in batches:
            on_device, at = batch.to(device), labelled(batch).to(device)  # (masked,)
            labels = on_device.labels[at]
            logits = mlm_logits(model, encode(model, on_device, {last}, set()).hidden[last][at])  # (masked, vocabulary)
            right = (logits.argmax(-1) == labels).sum()
            sums += torch.stack([mlm(logits, labels).double(), right.double(), sums.new_tensor(len(at))])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(sums)
    loss, right, masked = sums.tolist()
    return Heldout(loss / max(masked, 1.0), right / max(masked, 1.0), int(masked))


class _HeadFirst(TrainerCallback):  # type: ignore[misc]
    """Keeps an encoder as it is in the first `steps` steps, in which its head alone is trained.

    The learning rate is the step's own: it does not rise again for the encoder.
    """

    def __init__(self, encoder: nn.Module, steps: int) -> None:
        self._steps, self._encoder = steps, encoder
        self._kept: list[nn.Parameter] = []

    def on_train_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        # Not those that something else holds fixed.
        self._kept = [p for p in self._encoder.parameters() if p.requires_grad]

    def on_step_begin(self, args: TrainingArguments, state: Any, control: Any, **_: Any) -> None:
        if state.global_step <= self._steps:
            self.train(state.global_step == self._steps)

    def train(self, trained: bool) -> None:
        """Say whether the encoder is trained."""
        for parameter in self._kept:
            parameter.requires_grad_(trained)


def _keys_read(recipe: Recipe, layers: int) -> Collection[int]:
    """The layers of a student whose keys a loss term reads other than through softmax of their scores."""
    if LossTerm.ATTENTION_MSE in recipe.loss and recipe.attention_mse_of == "scores":
        return range(layers)
    return range(layers - 1, layers) if LossTerm.ATTENTION_RELATIONS in recipe.loss else ()


def arguments_for(
    recipe: Recipe, precision: str, checkpoints: Path | None, *, validates: bool, starts: bool
) -> TrainingArguments:
    """The Trainer's arguments for a recipe; `validates` where held-out rows choose the best student, `starts` at step 0
    where nothing is resumed."""
    return training_arguments(
        checkpoints,
        precision,
        max_steps=recipe.steps,
        learning_rate=recipe.learning_rate,
        warmup_steps=recipe.warmup_steps,
        weight_decay=recipe.weight_decay,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        adam_epsilon=recipe.adam_epsilon,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        eval_strategy="steps" if validates else "no",
        eval_steps=recipe.eval_every,
        eval_on_start=validates and starts,
        save_steps=recipe.save_every,
        dataloader_num_workers=4 if hardware.uses_gpu() else 0,
        # A loss that reads no logits leaves the head, and maybe the last layers, without a gradient.
        ddp_find_unused_parameters=bool(recipe.head_steps) or not reads(recipe, "logits"),
    )
