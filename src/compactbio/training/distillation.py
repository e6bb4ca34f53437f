"""Distillation, and continued pre-training, of models in memory: what is trained, by which settings, how validated."""

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from compactbio.modeling import hardware
from compactbio.modeling.packing import Packed
from compactbio.objectives import Distiller
from compactbio.objectives.terms import TERMS
from compactbio.recipes import LossTerm, Recipe
from compactbio.training import engine, masked_lm
from compactbio.training.batches import Steps
from compactbio.training.step_trainer import Validation


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
) -> engine.Outcome:
    """Train a student in place, for the steps of its batches.

    Args:
        student: the model to train, as of `modeling.build_student`.
        teacher: the model that it learns from; None where no loss term reads one.
        batches: the packed micro-batches of each step.
        recipe: the loss and the optimisation.
        heldout: held-out rows that choose the best student, where `arguments` ask for it.
        arguments: as of `arguments_for`, where checkpoints are written; by default none are, in float32.
        callbacks: what reports on the training.
        checkpoint: a checkpoint of the same training to resume from.

    SIGINT and SIGTERM end the training after the step under way, with a checkpoint. Raises UserError where the two
    models do not fit the loss, where the loss is not finite, and where the disk is full; checkpoints are kept.
    """
    if arguments is None:
        recipe = recipe.model_copy(update={"steps": len(batches)})
        arguments = arguments_for(recipe, "fp32", None, validates=False, starts=True)
    distiller = Distiller(student, teacher, recipe)
    if distiller.teacher is not None:
        distiller.teacher.to(arguments.device, torch.bfloat16 if arguments.bf16 else torch.float32)

    def scores(model: PreTrainedModel) -> dict[str, float]:
        found = masked_lm.score_heldout(model, heldout, bf16=arguments.bf16)
        return {"heldout_loss": found.loss, "heldout_accuracy": found.accuracy}

    validation = Validation(scores, "heldout_loss", greater_is_better=False)
    raw_scores = LossTerm.ATTENTION_MSE in recipe.loss and recipe.attention_mse_of == "scores"
    return engine.fit(distiller, batches, validation, arguments, callbacks, checkpoint, train_key_biases=raw_scores)


def arguments_for(
    recipe: Recipe, precision: str, checkpoints: Path | None, *, validates: bool, starts: bool
) -> TrainingArguments:
    """The Trainer's arguments for a recipe; `validates` where held-out rows choose the best student, `starts` at step 0
    where nothing is resumed."""
    return engine.training_arguments(
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
        ddp_find_unused_parameters=not any(TERMS[term].logits for term in recipe.loss),
    )


def reads_teacher_logits(recipe: Recipe) -> bool:
    """Whether a loss term compares predictions, for which the teacher needs an MLM head."""
    return any(TERMS[term].teacher_logits for term in recipe.loss)
