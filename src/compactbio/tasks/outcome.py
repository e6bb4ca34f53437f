"""The scores of a model's predictions on a data set, and how sure they are: intervals, paired tests, many tests.

The bootstrap draws test units (sentences, documents, questions) with replacement; a score is computed again from the
sums over each draw, because F1 is not a mean over sentences. Sources: Efron and Tibshirani, An Introduction to the
Bootstrap, 1993, chapters 13 and 16; Berg-Kirkpatrick, Burkett and Klein, An Empirical Investigation of Statistical
Significance in NLP, EMNLP 2012.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compactbio.errors import UserError

Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Sums (..., k) over test units into scores (...) in [0, 1]."""

Units = NDArray[np.float64] | Sequence[NDArray[np.float64]]
"""(seeds, n, k): what each seed's run counted in each of n test units; for folds, one such array each."""

LEVEL = 0.95
_EQUAL = 1e-12  # what two scores differ by that are the same
REPEATS = 2000
# Units drawn at a time: what fits a processor's cache is twice as fast as ten times as much.
_BLOCK = 100_000


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
        metric: the name of the main one of `scores`, and of its statistic in STATISTICS.
        scores: by name, all in [0, 1].
        units: (n, k), for each `unit` the sums that the statistic turns into the main score.
        unit: "sentence", "document", "example" or "question".
        per_type: scores by entity type or class.
        notes: sentences on what was counted how.
        scheme: which classes of relations were scored and which were not (see `relation_classes.Scheme.record`).
    """

    metric: str
    scores: dict[str, float]
    units: NDArray[np.float64] = field(compare=False)
    unit: str
    per_type: dict[str, dict[str, float]] = field(default_factory=dict)
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
        counts = Counter((mistake.kind, mistake.gold, mistake.predicted) for mistake in self.mistakes)
        contexts = {(mistake.kind, mistake.gold, mistake.predicted): mistake for mistake in reversed(self.mistakes)}
        return {
            "metric": self.metric,
            "scores": self.scores,
            "statistic": self.metric,
            "unit": self.unit,
            "units": self.units.tolist(),
            "per_type": self.per_type,
            "errors": self.errors,
            "mistakes": [
                {"kind": key[0], "gold": key[1], "predicted": key[2], "count": count, "context": contexts[key].context}
                for key, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
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


def listed(names: Set[str]) -> str:
    """Names of types in alphabetical order, for a sentence."""
    return ", ".join(sorted(name or "mentions without a type" for name in names))


def f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 from true positives, false positives, false negatives (..., 3); 0 where there is nothing to find."""
    return _ratio(2 * sums[..., 0], 2 * sums[..., 0] + sums[..., 1] + sums[..., 2])


def mrr(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean reciprocal rank from strict hits, lenient hits, reciprocal ranks, questions (..., 4)."""
    return _ratio(sums[..., 2], sums[..., 3])


STATISTICS: dict[str, Statistic] = {"f1": f1, "mrr": mrr}


@dataclass(frozen=True)
class Paired:
    """The difference of two scores in [-1, 1], its interval, and the two-sided p of "there is none"."""

    difference: float
    low: float
    high: float
    p: float


def score(units: Units, statistic: Statistic) -> float:
    """The mean over seeds, then over folds, of the statistic of all units. Raises UserError where there is no unit."""
    return float(np.mean([statistic(fold.sum(axis=1)).mean() for fold in _folds(units)]))


def interval(
    units: Units, statistic: Statistic, level: float = LEVEL, repeats: int = REPEATS, seed: int = 0
) -> tuple[float, float]:
    """The percentile bootstrap interval of `score`, within [0, 1].

    A draw of units serves all seeds, so the interval is about the test set and not about the seeds; every fold is
    drawn by itself. Raises UserError where there is no unit.
    """
    return _bounds(_resampled(units, statistic, repeats, seed), level)


def paired(
    a: Units, b: Units, statistic: Statistic, level: float = LEVEL, repeats: int = REPEATS, seed: int = 0
) -> Paired:
    """Compare two models on the same test units: score(a) - score(b), every draw of units serving both.

    p = 2 min(P(d <= 0), P(d >= 0)), at most 1, over the drawn differences d; one is added to both counts and to
    `repeats`, so that p is never 0. Numbers of seeds may differ. Raises UserError where folds or units do.
    """
    sizes = [[fold.shape[1] for fold in _folds(units)] for units in (a, b)]
    if sizes[0] != sizes[1]:
        raise UserError(
            f"Two models can only be compared on the same test set, and these were scored on {_listed(sizes[0])} and "
            f"{_listed(sizes[1])} units; evaluate both again on one file."
        )
    drawn = _resampled(a, statistic, repeats, seed) - _resampled(b, statistic, repeats, seed)
    drawn[np.abs(drawn) < _EQUAL] = 0  # sums in another order differ in their last bits
    rarer = min(np.count_nonzero(drawn <= 0), np.count_nonzero(drawn >= 0))
    p = min(1.0, 2 * (int(rarer) + 1) / (repeats + 1))
    return Paired(score(a, statistic) - score(b, statistic), *_bounds(drawn, level), p)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, in the order given: reject those below the level of the whole family.

    Source: Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()  # type: ignore[no-any-return]


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(above, below, out=np.zeros_like(above, dtype=np.float64), where=below > 0)


def _folds(units: Units) -> list[NDArray[np.float64]]:
    folds = [units] if isinstance(units, np.ndarray) else list(units)
    if not folds or any(fold.shape[1] == 0 for fold in folds):
        raise UserError("The data hold nothing to score; check that they are the right file.")
    return folds


def _listed(sizes: Sequence[int]) -> str:
    return " + ".join(f"{size:,}" for size in sizes)


def _resampled(units: Units, statistic: Statistic, repeats: int, seed: int) -> NDArray[np.float64]:
    """`score` of each of `repeats` draws, (repeats,); the draws depend on `seed` and the numbers of units alone."""
    scores = []
    for place, fold in enumerate(_folds(units)):
        seeds, n, k = fold.shape
        flat = fold.transpose(1, 0, 2).reshape(n, seeds * k).astype(np.float64)
        draws = _counts(np.random.default_rng([seed, place]), n, repeats)
        blocks = [statistic((counts @ flat).reshape(len(counts), seeds, k)).mean(axis=1) for counts in draws]
        scores.append(np.concatenate(blocks))
    return np.asarray(np.mean(scores, axis=0))


def _counts(rng: np.random.Generator, n: int, repeats: int) -> Iterator[NDArray[np.float64]]:
    """Multinomial counts: how often each of n units is in each draw, (some, n) at a time, `repeats` in all."""
    step = max(1, _BLOCK // n)
    for start in range(0, repeats, step):
        rows = min(step, repeats - start)
        drawn = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float64)


def _bounds(drawn: NDArray[np.float64], level: float) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return float(low), float(high)


def interval_of(*outcomes: Outcome) -> tuple[float, float]:
    """The 95 % bootstrap interval of an outcome's main score, over its units; of several outcomes that of the mean."""
    return interval([outcome.units[None] for outcome in outcomes], STATISTICS[outcomes[0].metric])
