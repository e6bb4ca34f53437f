"""The runs of a comparison as a table: means, deviations, intervals and paired tests."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from compactbio.errors import UserError
from compactbio.files import value_digest
from compactbio.tasks.outcome import REPEATS, STATISTICS, Paired, holm, interval, paired

State = Literal["done", "failed", "not run"]


class Profile(TypedDict):
    """A model's number of parameters, tokens per second, and milliseconds per sentence; None: not measured.

    `measured` says on what and how.
    """

    parameters: int
    tokens_per_second: float | None
    latency_ms: float | None
    measured: str


@dataclass(frozen=True)
class Run:
    """One model, fine-tuned on one data set with one seed, and scored."""

    model: str  # its name in the suite
    data: str  # its name in the suite
    seed: int
    fold: str  # of the data set, "" where it has none
    state: State
    error: str  # the reason of a failed run
    evaluation: dict[str, Any] | None  # of the test set, as `Evaluation.record` gives it; None where it is not done
    calibration: dict[str, Any] | None = None  # on devel, see `tasks.calibration`; None where there is none
    teachers: tuple[str, ...] = ()  # the models of the suite that taught it

    @property
    def scored(self) -> dict[str, Any]:
        """The evaluation of a run that is done. Raises ValueError for one that is not."""
        if self.evaluation is None:
            raise ValueError(f"{self.label} of {self.model} on {self.data} has no evaluation")
        return self.evaluation

    @property
    def main(self) -> float:
        """The main score of a run that is done, in [0, 1]."""
        return float(self.scored["scores"][self.scored["metric"]])

    @property
    def label(self) -> str:
        """Which run of its model and data set this is, in words."""
        return f"fold {self.fold}, seed {self.seed}" if self.fold else f"seed {self.seed}"


ALPHA = 0.05
# The least p is 2 / (repeats + 1), so that this many draws per test keep the least adjusted p at 0.02.
_REPEATS_PER_TEST = 100
# What all runs on one test set must have in common, and the word for it.
_COMMON = {"task": "tasks", "metric": "metrics", "protocol": "protocols", "train_on": "training splits"}


@dataclass(frozen=True)
class PairedTest(Paired):
    """A model against the baseline, with p `adjusted` by Holm's method over all tests of the table."""

    adjusted: float

    @property
    def significant(self) -> bool:
        """Whether the adjusted p is below 0.05."""
        return self.adjusted < ALPHA


@dataclass(frozen=True)
class Row:
    """A model on a data set; all scores in [0, 1], None where there is none.

    `state`: "done", or "partial", "failed" or "not run" where some or all runs are missing. `runs` are those scored,
    `failures` the reasons of those that failed, `missing` the number of those not run. `mean` is over folds of the
    mean over their seeds, `deviation` the standard deviation (n - 1) over the seeds that have every fold, `low` and
    `high` the 95 % bootstrap interval of the mean, `share` the mean over the teacher's, None where the two were not
    scored on the same folds. `scores` are the means of all scores of the task. `every_fold`: whether it was scored on
    every fold that any model was, as means over other folds are not compared.
    """

    model: str
    data: str
    state: Literal["done", "partial", "failed", "not run"]
    runs: int
    failures: tuple[str, ...]
    missing: int
    mean: float | None = None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    scores: dict[str, float] | None = None
    share: float | None = None
    test: PairedTest | None = None
    every_fold: bool = False

    @property
    def planned(self) -> int:
        """All runs, scored or not."""
        return self.runs + len(self.failures) + self.missing


@dataclass(frozen=True)
class Column:
    """A data set and how it was scored; empty strings and 0 where no run on it is done.

    `units` are the test units over all folds, `sha256` the test file's, or the digest of the folds' digests in order.
    """

    data: str
    task: str = ""
    metric: str = ""
    protocol: str = ""
    split: str = ""
    unit: str = ""
    units: int = 0
    sha256: str = ""
    train_on: str = ""
    seeds: tuple[int, ...] = ()
    folds: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows for every model and data set in the order of the suite; `repeats` are the bootstrap's draws.

    `taught` are the models that others of the suite taught the task, by name, with the names of these.
    """

    baseline: str
    teacher: str | None
    repeats: int
    models: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    taught: dict[str, tuple[str, ...]]

    def row(self, model: str, data: str) -> Row:
        """The row of a model on a data set."""
        return next(row for row in self.rows if (row.model, row.data) == (model, data))

    def best(self, data: str) -> float | None:
        """The highest mean on every fold of a data set, None where no model was scored on all."""
        means = (row.mean for row in self.rows if row.data == data and row.every_fold)
        return max((mean for mean in means if mean is not None), default=None)

    def is_best(self, row: Row) -> bool:
        """Whether a row has the highest mean of its data set."""
        return row.every_fold and row.mean == self.best(row.data)

    def some_folds(self) -> list[Row]:
        """The rows that were scored on some of the folds only."""
        return [row for row in self.rows if row.runs and not row.every_fold]

    def overall(self, model: str) -> float | None:
        """The mean of a model's scores over the data sets, None where it lacks one or a fold of one."""
        means = [row.mean for row in self.rows if row.model == model and row.every_fold and row.mean is not None]
        return fmean(means) if len(means) == len(self.columns) else None


def build(runs: Sequence[Run], baseline: str, teacher: str | None = None) -> Table:
    """Make the table of all runs, done or not, tested against `baseline`; shares are of `teacher`'s scores.

    A model is tested where it and the baseline were scored on the same folds, and has a share where it and the teacher
    were. There are at least 2,000 draws, more where there are more than 20 tests. Raises UserError where runs on one
    data set were not scored on the same units in the same way.
    """
    models, data = dict.fromkeys(run.model for run in runs), dict.fromkeys(run.data for run in runs)
    groups = {(m, d): [run for run in runs if (run.model, run.data) == (m, d)] for d in data for m in models}
    done = {key: [run for run in group if run.state == "done"] for key, group in groups.items()}
    for name in data:
        _check_alike(name, [run for run in runs if run.data == name and run.state == "done"])
    pairs = [(m, d) for (m, d), group in done.items() if m != baseline and _same_folds(group, done.get((baseline, d)))]
    repeats = max(REPEATS, _REPEATS_PER_TEST * len(pairs))
    tests = _tests(done, pairs, baseline, repeats)
    plain = {key: _row(*key, group, repeats) for key, group in groups.items()}
    every = {d: [run for run in runs if (run.data, run.state) == (d, "done")] for d in data}
    shares = {
        (m, d): _share(plain[m, d], plain[teacher, d])
        for m, d in plain
        if teacher and _same_folds(done[m, d], done.get((teacher, d)))
    }
    rows = (
        replace(row, test=tests.get(key), share=shares.get(key), every_fold=_same_folds(done[key], every[row.data]))
        for key, row in plain.items()
    )
    columns = (_column(name, [run for run in runs if run.data == name]) for name in data)
    taught = {run.model: run.teachers for run in runs if run.teachers}
    return Table(baseline, teacher, repeats, tuple(models), tuple(columns), tuple(rows), taught)


def in_words(names: Iterable[str]) -> str:
    """Names for a sentence: "a", "a and b", "a, b and c"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def over_runs(done: Iterable[Run], *keys: str) -> float:
    """The mean over folds of the mean over their seeds, of the number in a run's evaluation to which `keys` lead."""

    def number(run: Run) -> float:
        value: Any = run.scored
        for key in keys:
            value = value[key]
        return float(value)

    return fmean(fmean(map(number, runs)) for runs in _folds(done).values())


def _check_alike(data: str, done: Sequence[Run]) -> None:
    for key, word in _COMMON.items():
        found = sorted({str(run.scored[key]) for run in done})
        if len(found) > 1:
            raise UserError(f"Runs on {data} differ in their {word} ({', '.join(found)}); run them again in one way.")
    for fold, runs in _folds(done).items():
        # The answers of a question answering test set may be in a file of their own.
        tested = ((run.scored["data"], len(run.scored["units"])) for run in runs)
        if len({(record["sha256"], record.get("gold_sha256"), units) for record, units in tested}) > 1:
            place = f"{data}, fold {fold}," if fold else data
            raise UserError(f"Runs on {place} were not scored on the same test file; run the older ones again.")


def _folds(done: Iterable[Run]) -> dict[str, list[Run]]:
    folds: dict[str, list[Run]] = {}
    for run in done:
        folds.setdefault(run.fold, []).append(run)
    return dict(sorted(folds.items()))


def _units(done: Iterable[Run]) -> list[NDArray[np.float64]]:
    return [
        np.stack([np.asarray(run.scored["units"], dtype=np.float64) for run in runs]) for runs in _folds(done).values()
    ]


def _same_folds(a: Sequence[Run], b: Sequence[Run] | None) -> bool:
    return bool(a and b) and _folds(a).keys() == _folds(b or ()).keys()


def _tests(
    done: dict[tuple[str, str], list[Run]], pairs: Sequence[tuple[str, str]], baseline: str, repeats: int
) -> dict[tuple[str, str], PairedTest]:
    plain = []
    for model, data in pairs:
        a, b = done[model, data], done[baseline, data]
        plain.append(paired(_units(a), _units(b), STATISTICS[a[0].scored["statistic"]], repeats=repeats))
    adjusted = holm([test.p for test in plain])
    tests = (PairedTest(**asdict(test), adjusted=p) for test, p in zip(plain, adjusted, strict=True))
    return dict(zip(pairs, tests, strict=True))


def _share(row: Row, teacher: Row) -> float | None:
    return row.mean / teacher.mean if row.mean is not None and teacher.mean else None


def _row(model: str, data: str, runs: Sequence[Run], repeats: int) -> Row:
    done = [run for run in runs if run.state == "done"]
    failures = tuple(f"{run.label}: {run.error}" for run in runs if run.state == "failed")
    missing = len(runs) - len(done) - len(failures)
    if not done:
        return Row(model, data, "failed" if failures else "not run", 0, failures, missing)
    low, high = interval(_units(done), STATISTICS[done[0].scored["statistic"]], repeats=repeats)
    return Row(
        model,
        data,
        "done" if len(done) == len(runs) else "partial",
        len(done),
        failures,
        missing,
        mean=over_runs(done, "scores", done[0].scored["metric"]),
        deviation=_deviation(done),
        low=low,
        high=high,
        scores={name: over_runs(done, "scores", name) for name in done[0].scored["scores"]},
    )


def _deviation(done: Sequence[Run]) -> float | None:
    folds = len(_folds(done))
    by_seed = [[run.main for run in done if run.seed == seed] for seed in {run.seed for run in done}]
    whole = [fmean(scores) for scores in by_seed if len(scores) == folds]
    return stdev(whole) if len(whole) > 1 else None


def _column(data: str, runs: Sequence[Run]) -> Column:
    folds = _folds(run for run in runs if run.state == "done")
    if not folds:
        return Column(data)
    firsts = [fold[0].scored for fold in folds.values()]
    digests = [first["data"]["sha256"] for first in firsts]
    first = firsts[0]
    return Column(
        data,
        **{key: first[key] for key in ("task", "metric", "protocol", "unit")},
        split=first["data"]["split"],
        units=sum(len(record["units"]) for record in firsts),
        sha256=digests[0] if len(digests) == 1 else value_digest(digests),
        train_on=first["train_on"] or "",
        seeds=tuple(sorted({run.seed for run in runs})),
        folds=len([fold for fold in folds if fold]),
        notes=tuple(dict.fromkeys(note for fold in folds.values() for run in fold for note in run.scored["notes"])),
    )
