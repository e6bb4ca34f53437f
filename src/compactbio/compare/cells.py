"""What a comparison knows: one run of a model on a data set, and a model's size and speed."""

from dataclasses import dataclass
from typing import Any, Literal, TypedDict

State = Literal["done", "failed", "not run"]


class Profile(TypedDict):
    """A model's parameters (a count), tokens a second, and milliseconds for one sentence; None: not measured."""

    parameters: int
    tokens_per_second: float | None
    latency_ms: float | None


@dataclass(frozen=True)
class Cell:
    """One model, fine-tuned on one data set (or one of its folds, "" where it has none) from one seed, and scored.

    `error` is the reason of a failed run. `evaluation` is the JSON object of the scored test set: an `Outcome`'s
    record with `task`, `protocol`, `data`, `model`, `seed` and `train_on` beside it.
    """

    model: str
    data: str
    seed: int
    fold: str
    state: State
    error: str
    evaluation: dict[str, Any] | None

    @property
    def scored(self) -> dict[str, Any]:
        """The evaluation of a run that is done. Raises ValueError for one that is not."""
        if self.evaluation is None:
            raise ValueError(f"{self.run} of {self.model} on {self.data} has no evaluation")
        return self.evaluation

    @property
    def main(self) -> float:
        """The main score of a run that is done, in [0, 1]."""
        return float(self.scored["scores"][self.scored["metric"]])

    @property
    def run(self) -> str:
        """Which run of its model and data set this is, in words."""
        return f"fold {self.fold}, seed {self.seed}" if self.fold else f"seed {self.seed}"
