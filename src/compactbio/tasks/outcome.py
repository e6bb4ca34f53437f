"""What a model's predictions on a data set came to, in numbers that intervals and tests can be drawn from."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mistake:
    """One error. `kind` is a task's own word for it, `gold` and `predicted` are "" where there is none."""

    kind: str
    gold: str
    predicted: str
    context: str


@dataclass(frozen=True)
class Outcome:
    """Scores and what they are made of.

    `metric` names the main one of `scores`, all in [0, 1]. `units` is (n, k): for each `unit` ("sentence",
    "document", "example", "question") the sums that `statistic` (a name in `statistics.STATISTICS`) turns into the
    main score. `per_type` are scores by entity type or class. `notes` are sentences on what was counted how.
    `scheme` says which classes of relations were scored and which were not (see `scheme.Scheme.record`).
    """

    metric: str
    scores: dict[str, float]
    units: NDArray[np.float64]
    statistic: str
    unit: str
    per_type: dict[str, dict[str, float]]
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[str, ...] = ()
    scheme: dict[str, Any] | None = None

    @property
    def main(self) -> float:
        """The main score, in [0, 1]."""
        return self.scores[self.metric]

    def record(self) -> dict[str, Any]:
        """As a JSON value, mistakes counted with one context each, the most frequent first."""
        counted: dict[tuple[str, str, str], list[Any]] = {}
        for mistake in self.mistakes:
            entry = counted.setdefault((mistake.kind, mistake.gold, mistake.predicted), [0, mistake.context])
            entry[0] += 1
        ordered = sorted(counted.items(), key=lambda item: (-item[1][0], item[0]))
        return {
            "metric": self.metric,
            "scores": self.scores,
            "statistic": self.statistic,
            "unit": self.unit,
            "units": self.units.tolist(),
            "per_type": self.per_type,
            "mistakes": [
                {"kind": kind, "gold": gold, "predicted": predicted, "count": count, "context": context}
                for (kind, gold, predicted), (count, context) in ordered
            ],
            "notes": list(self.notes),
            **({"scheme": self.scheme} if self.scheme else {}),
        }
