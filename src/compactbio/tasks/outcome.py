"""What a model's predictions on a data set came to, in numbers that intervals and tests can be drawn from."""

from collections import Counter
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
    """Scores and the counts that they are computed from.

    Args:
        metric: the name of the main one of `scores`.
        scores: by name, all in [0, 1].
        units: (n, k), for each `unit` the sums that `statistic` turns into the main score.
        statistic: a name in `statistics.STATISTICS`.
        unit: "sentence", "document", "example" or "question".
        per_type: scores by entity type or class.
        notes: sentences on what was counted how.
        scheme: which classes of relations were scored and which were not (see `relation_classes.Scheme.record`).
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

    @property
    def errors(self) -> dict[str, int]:
        """How many errors there are of each kind, the most frequent first."""
        return dict(Counter(mistake.kind for mistake in self.mistakes).most_common())

    def record(self) -> dict[str, Any]:
        """As a JSON value; equal mistakes are counted with one context each, the most frequent first."""
        counts: dict[tuple[str, str, str], int] = {}
        contexts: dict[tuple[str, str, str], str] = {}
        for mistake in self.mistakes:
            key = (mistake.kind, mistake.gold, mistake.predicted)
            counts[key] = counts.get(key, 0) + 1
            contexts.setdefault(key, mistake.context)
        return {
            "metric": self.metric,
            "scores": self.scores,
            "statistic": self.statistic,
            "unit": self.unit,
            "units": self.units.tolist(),
            "per_type": self.per_type,
            "errors": self.errors,
            "mistakes": [
                {"kind": key[0], "gold": key[1], "predicted": key[2], "count": counts[key], "context": contexts[key]}
                for key in sorted(counts, key=lambda key: (-counts[key], key))
            ],
            "notes": list(self.notes),
            **({"scheme": self.scheme} if self.scheme else {}),
        }


def rates(tp: float, fp: float, fn: float) -> dict[str, float]:
    """Precision, recall and F1 in [0, 1] from true positives, false positives and false negatives; 0 for 0 of 0."""
    return {
        "precision": tp / (tp + fp) if tp + fp else 0.0,
        "recall": tp / (tp + fn) if tp + fn else 0.0,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0,
    }


def counted(counts: dict[str, int]) -> tuple[str, ...]:
    """A sentence "3 questions were cut." for each text whose count is not 0."""
    return tuple(f"{count:,} {text}." for text, count in counts.items() if count)


def listed(names: set[str]) -> str:
    """Names of types in alphabetical order, for a sentence."""
    return ", ".join(sorted(name or "mentions without a type" for name in names))
