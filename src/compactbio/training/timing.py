"""How long optimiser steps take on this machine: real ones, on the engine that trains."""

import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from compactbio.errors import UserError
from compactbio.recipes import Recipe
from compactbio.training import batches, engine, run


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
    if torch.cuda.is_available():
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
        arguments = run.arguments_for(recipe, precision, Path(folder), measures=False, starts=True)
        arguments.save_strategy = "no"
        outcome = engine.distil(student, teacher, steps, [], recipe, arguments, [clock])
    if outcome.stopped:
        raise UserError("Stopped before all steps were timed; start again.")
    tokens = tuple(sum(batch.borders[-1] for batch in steps[i]) for i in range(1, count + 1))
    return Timed(tuple(clock.seconds[1:]), tuple(clock.update[1:]), tokens)
