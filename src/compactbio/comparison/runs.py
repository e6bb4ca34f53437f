"""The runs of a comparison, each kept as it is done, even if some fail."""

import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, redirect_stderr
from dataclasses import asdict, dataclass, replace
from functools import cache
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import torch

from compactbio import formats
from compactbio.comparison.suite import FILES, DataSet, Suite
from compactbio.comparison.table import Run, State, in_words
from compactbio.errors import UserError, check_count
from compactbio.evaluation.scoring import add_to_card, evaluate
from compactbio.files import read_json_or_none, refuse_foreign, refuse_inside, value_digest, write_json, write_text
from compactbio.modeling import hardware, loading, runtimes
from compactbio.modeling.families import longest
from compactbio.processes import cores, results_in_turn
from compactbio.tasks import calibration_file
from compactbio.tasks import data as datasets
from compactbio.tasks.settings import Settings, settings
from compactbio.training import run_folder, unlabelled
from compactbio.training.finetuning import finetune
from compactbio.training.teaching import settings_of_teaching

RUNS = "runs"
EVALUATION = "evaluation.json"
FAILURE = "failure.txt"
_MODEL = "model"
# The keys of an evaluation and their types; another file of that name is ignored.
_KEYS = {
    **dict.fromkeys(("task", "metric", "statistic", "unit"), str),
    **dict.fromkeys(("scores", "per_type", "data", "model"), dict),
    **dict.fromkeys(("units", "mistakes", "notes"), list),
}
# Those of the identity of a run of fine-tuning.
_IDENTITY = {"settings": dict, "data": dict, "model": dict, "train_on": str, "precision": str, "tokens_per_batch": int}


class Stopped(Exception):  # noqa: N818 (not an error)
    """A signal ended a run; what was done is kept, and the same comparison resumes from there."""


@dataclass(frozen=True)
class _Planned:
    """A run of a suite, done or not: a model on a data set (or one of its folds) with a seed, in a folder.

    `teachers` are the folders of the fine-tuned models of its teachers, by their names in the suite.
    """

    model: str
    name: str
    seed: int
    fold: str
    data: DataSet
    folder: Path
    teachers: dict[str, Path]

    @property
    def trained(self) -> Path:
        """The folder of the fine-tuned model."""
        return self.folder / _MODEL

    def result(self, state: State, error: str = "", evaluation: dict[str, Any] | None = None) -> Run:
        calibrated = calibration_file.read(self.trained) if state == "done" else None
        calibration = next((asdict(kept.calibration) for kept in (calibrated or {}).values()), None)
        teachers = tuple(self.teachers)
        return Run(self.model, self.name, self.seed, self.fold, state, error, evaluation, calibration, teachers)

    def finished(self) -> Run | None:
        """The kept result, where it is of the model and the test data as they are now.

        A model that is damaged since, or whose training has no record any more, keeps its result, with a note.
        """
        record = read_json_or_none(self.folder / EVALUATION)
        if not _has(record, _KEYS):
            return None
        digests = _find(self.data, self.fold, self.name).digests
        scored = (record["data"].get("sha256"), record["data"].get("gold_sha256"))
        if scored != (digests["test"], digests.get("gold")):
            return None
        run, lost = self.result("done", evaluation=record), ""
        if damage := run_folder.damage(self.trained):
            lost = f"its model is damaged ({damage})"
        elif record["model"].get("sha256") != loading.find(self.trained).digest:
            return None
        elif run_folder.record(self.trained) is None:
            lost = f"the record of its training ({run_folder.RUN}) is missing"
        if not lost:
            return run
        note = f"The score of {run.model}, {run.label}, is kept, but {lost}."
        return replace(run, evaluation={**record, "notes": [*record["notes"], note]})

    def scored_on(self) -> str | None:
        """The SHA-256 of the test file of the kept result, None where there is none."""
        record = read_json_or_none(self.folder / EVALUATION)
        return record["data"].get("sha256") if _has(record, _KEYS) else None

    def taught_by(self, identity: dict[str, Any]) -> bool:
        """Whether the teachers of a run are those that are trained now; one that is not trained may become so."""
        had = identity.get("teachers") or []
        return len(had) == len(self.teachers) and all(
            _untrained(folder)
            or runtimes.digest(runtimes.find(folder), teacher.get("runtime", "")) == teacher.get("sha256")
            for folder, teacher in zip(self.teachers.values(), had, strict=True)
        )

    def unfinished(self) -> Run:
        failure = self.folder / FAILURE
        if not failure.exists():
            return self.result("not run")
        return self.result("failed", failure.read_text(encoding="utf-8", errors="replace").partition("\n")[0])


def _has(value: Any, keys: Mapping[str, type]) -> bool:
    """Whether a JSON value maps these keys to values of these types."""
    return isinstance(value, dict) and all(isinstance(value.get(key), kind) for key, kind in keys.items())


def _planned(suite: Suite, out: Path) -> Iterator[_Planned]:
    """All runs of a suite: first seeds first, so that a whole table is done early, and teachers before students."""
    levels, turns = suite.levels, max(len(suite.seeds_for(name)) for name in suite.data)
    for turn, level in product(range(turns), sorted({*levels.values()})):
        for name, data in suite.data.items():
            for seed in suite.seeds_for(name)[turn : turn + 1]:
                for fold in data.folds or ("",):
                    folders = {model: _folder(out, suite, model, name, seed, fold) for model in suite.models}
                    for model in (model for model in suite.models if levels[model] == level):
                        teachers = {teacher: folders[teacher] / _MODEL for teacher in suite.models[model].teachers}
                        yield _Planned(model, name, seed, fold, data, folders[model], teachers)


def _folder(out: Path, suite: Suite, model: str, data: str, seed: int, fold: str) -> Path:
    # A hash after the readable name: names may hold slashes, and may differ in them alone. Other teachers, another run.
    readable, teachers = re.sub(r"[^\w.-]", "_", f"{data}-{model}"), list(suite.models[model].teachers)
    named = f"{readable}-{value_digest([data, model, *([teachers] if teachers else [])])[:6]}"
    return out / RUNS / named / (f"fold-{fold}-seed-{seed}" if fold else f"seed-{seed}")


def _place(data: DataSet, fold: str) -> Path | dict[str, Path]:
    if data.path is not None:
        return data.path / fold if fold else data.path
    return {key: path for key in FILES if (path := getattr(data, key)) is not None}


def _find(data: DataSet, fold: str, name: str) -> datasets.Data:
    return datasets.find(_place(data, fold), data.task, name, format=data.format)


def check(suite: Suite, out: str | Path) -> None:
    """Find every model and data set of a suite, with its task, settings and test split, before the first run.

    Raises UserError for the first that is missing or wrong, and where `out` holds runs of another suite, or other
    files.
    """
    out = Path(out)
    refuse_foreign(out, "comparison", RUNS)
    refuse_inside(out, suite.places)
    sources = {name: loading.find(model.path) for name, model in suite.models.items()}
    digest = cache(datasets.digest)  # data sets may have the same texts
    readings, texts = {name: source.reading for name, source in sources.items()}, dict[str, list[str]]()
    for name, data in suite.data.items():
        for fold in data.folds or ("",):
            found, where = _find(data, fold, name), data.path and data.path / fold
            for split in ("train", "test"):
                if split not in found.files:
                    raise UserError(f"{name}: there is no {split} file in {where}; a comparison needs both.")
            if suite.train_on == "train+devel" and "devel" not in found.files:
                place = f" in {where}" if where else ""
                raise UserError(f"{name}: train_on is train+devel, and there is no devel file{place}.")
            if found.task == "qa":
                found.check_answers(found.read("test"), "test")
            for model, source in sources.items():
                _settings(suite, model, name, found.task, source)
        files = formats.find_texts(data.unlabelled).files if data.unlabelled else ()
        if files:
            unlabelled.check(files, found.task)  # here, and not after its teachers were trained
        texts[name] = list(map(digest, files))
    for planned in _planned(suite, out):
        own = texts[planned.name] if planned.teachers else []
        _check_same(suite, planned, sources[planned.model], readings[planned.model], own)


def _settings(suite: Suite, model: str, name: str, task: str, source: loading.Source, seed: int = 0) -> Settings:
    """The settings of a run as its record has them. Raises UserError for those that are wrong."""
    chosen = settings(task, int(source.config.hidden_size), {**suite.settings_for(model, name), "seed": seed})
    taught, texts = bool(suite.models[model].teachers), bool(suite.texts_for(model, name))
    return settings_of_teaching(chosen, teachers=taught, texts=texts).within(longest(source.config))


def _check_same(suite: Suite, planned: _Planned, source: loading.Source, reading: str, texts: list[str]) -> None:
    """Refuse a folder whose run was made with other settings, data, weights, teachers or texts than the suite's."""
    record = run_folder.record(planned.trained)
    if record is None or not run_folder.has_begun(planned.trained):
        return
    had = record["identity"]
    if not _has(had, _IDENTITY) or not all(map(_records, (had.get("teachers"), had.get("unlabelled")))):
        raise UserError(
            f"{planned.trained / run_folder.RUN} is not a record of fine-tuning: delete {planned.folder} to run it "
            "again, or choose another folder.",
            setting="out",
        )
    found = _find(planned.data, planned.fold, planned.name)
    chosen = _settings(suite, planned.model, planned.name, found.task, source, planned.seed)
    same = {
        "settings": chosen.record() == had["settings"],
        "train_on": suite.train_on == had["train_on"],
        "weights": source.digest == had["model"].get("sha256"),
        "tokenizer": reading == had.get("tokenizer", reading),  # which records of older versions lack
        "data": all(found.digests.get(split) == had["data"].get(split) for split in ("train", "devel")),
        "teachers": planned.taught_by(had),
        "unlabelled texts": texts == [text.get("sha256") for text in had.get("unlabelled") or []],
        # Its documents are left out of the texts.
        "test split": not texts or planned.scored_on() in (None, found.digests["test"]),
    }
    if differs := [key for key, alike in same.items() if not alike]:
        raise UserError(
            f"{planned.folder} holds a run of {planned.model} on {planned.name} with other {in_words(differs)} "
            "than the suite says: choose another folder, or delete that one.",
            setting="out",
        )


def _records(value: Any) -> bool:
    """Whether a value is a list of mappings, or nothing."""
    return value is None or (isinstance(value, list) and all(isinstance(one, dict) for one in value))


def _untrained(folder: Path) -> str:
    """Why the model in a folder of a run cannot teach, "" where it can."""
    record = run_folder.record(folder)
    if record is None:
        return "has no record of its training: delete its run" if folder.exists() else "is not trained"
    if record["result"] is None:
        return "is not trained"
    return f"is damaged ({damage}): delete its run" if (damage := run_folder.damage(folder)) else ""


def kept_runs(suite: Suite, out: str | Path) -> list[Run]:
    """All runs of a suite as they are in `out`, without running any; one on other test data counts as not run."""
    return _in_order(suite, [planned.finished() or planned.unfinished() for planned in _planned(suite, Path(out))])


def _in_order(suite: Suite, runs: Sequence[Run]) -> list[Run]:
    """The runs, those of one model together, in the order of the suite."""
    return sorted(runs, key=lambda run: list(suite.models).index(run.model))


def run_suite(
    suite: Suite,
    out: str | Path,
    *,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    workers: int = 1,
    report: Callable[[str], None],
) -> list[Run]:
    """Do every run of a suite that is not done, under `out/runs/`, and return all; the options as for `compare`.

    A run that fails is returned with its reason, its traceback in `failure.txt`, and is tried again the next time.
    `report` is called with a line per run. Raises Stopped where a signal ends a run.
    """
    tokens_per_batch, workers = hardware.check_work(precision, tokens_per_batch), check_count("workers", workers)
    planned, found = list(_planned(suite, Path(out))), dict[int, Run]()
    numbers = {one.trained: number for number, one in enumerate(planned)}
    teachers = [[numbers[folder] for folder in one.teachers.values()] for one in planned]
    device = "auto" if hardware.uses_gpu() else "cpu"
    shares = _Shares(device, max(1, cores() // workers), hardware.gpus() if workers > 1 else ())
    given = (suite, precision, tokens_per_batch, shares)

    def begins(number: int) -> None:
        # The steps of several runs would mix, so that nothing else is heard of one until its end.
        if workers > 1 and not (planned[number].folder / EVALUATION).exists():
            run = planned[number].result("not run")
            report(f"{run.data}, {run.model}, {run.label}: begins")

    for number, (run, minutes) in results_in_turn(_start, given, planned, teachers, workers, begins):
        found[number] = run
        result = f"{100 * run.main:.2f}" if run.state == "done" else f"failed: {run.error}"
        place = f"[{len(found)}/{len(planned)}]"
        report(f"{place} {run.data}, {run.model}, {run.label}: {result} ({minutes:.1f} min)")
    return _in_order(suite, [found[number] for number in range(len(planned))])


class _Shares(NamedTuple):
    """What each worker has: the device, its number of threads, and the GPUs that are shared in turn."""

    device: str
    threads: int
    gpus: tuple[str, ...]


def _start(
    number: int | None, suite: Suite, precision: str, tokens: int | None, shares: _Shares
) -> Callable[[_Planned], tuple[Run, float]]:
    """A function of a run that does it and gives it with its minutes, for worker process `number` (None: this one)."""
    if number is not None:
        hardware.take_gpu(number, shares.gpus)
        torch.set_num_threads(shares.threads)

    stopped = False

    def run(planned: _Planned) -> tuple[Run, float]:
        nonlocal stopped
        if stopped:
            raise Stopped  # a worker that was asked to stop begins nothing more
        started = time.monotonic()
        silent = nullcontext() if number is None else redirect_stderr(StringIO())
        with hardware.on_device(shares.device), silent:
            try:
                result = _run(suite, planned, precision, tokens)
            except Stopped:
                stopped = True
                raise
        return result, (time.monotonic() - started) / 60

    return run


def _run(suite: Suite, planned: _Planned, precision: str, tokens: int | None) -> Run:
    data, place = planned.data, _place(planned.data, planned.fold)
    try:
        begun = run_folder.record(planned.trained)
        unrecorded = begun is None and planned.trained.exists()
        damaged = begun is not None and begun["result"] is not None and run_folder.damage(planned.trained)
        untrained = {name: why for name, folder in planned.teachers.items() if (why := _untrained(folder))}
        if (unrecorded or damaged or untrained) and (kept := planned.finished()):
            return kept
        if untrained:
            # Not kept in a file, as it would outlive the reason.
            return planned.result("failed", "; ".join(f"its teacher {name} {why}" for name, why in untrained.items()))
        if begun is not None and not planned.taught_by(begun["identity"]):
            where = "/".join(planned.folder.parts[-2:])
            raise UserError(f"it was taught by others than {in_words(planned.teachers)} as trained now: delete {where}")
        if begun is not None:
            # It may have been begun on another machine: it keeps its precision and batch size.
            precision, tokens = begun["identity"]["precision"], begun["identity"]["tokens_per_batch"]
        common: dict[str, Any] = {
            "task": data.task,
            "format": data.format,
            "name": planned.name,
            "precision": precision,
            "tokens_per_batch": tokens,
        }
        tuned = finetune(
            place,
            suite.models[planned.model].path,
            planned.trained,
            overrides={**suite.settings_for(planned.model, planned.name), "seed": planned.seed},
            teachers=planned.teachers,
            unlabelled=suite.texts_for(planned.model, planned.name),
            train_on=suite.train_on,
            resume=begun is not None,
            **common,
        )
        if tuned.state == "stopped":
            raise Stopped
        if tuned.state == "already finished" and (kept := planned.finished()):
            return kept
        evaluation = evaluate(planned.trained, place, **common)
        add_to_card(planned.trained, evaluation)
        record = {**evaluation.record(), "seed": planned.seed}
        write_json(planned.folder / EVALUATION, record)
        (planned.folder / FAILURE).unlink(missing_ok=True)
    except (Stopped, KeyboardInterrupt):
        raise Stopped from None
    except Exception as error:
        [first, *_] = str(error).strip().splitlines() or [""]
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first}"
        planned.folder.mkdir(parents=True, exist_ok=True)
        write_text(planned.folder / FAILURE, f"{reason}\n\n{traceback.format_exc()}")
        return planned.result("failed", reason)
    return planned.result("done", evaluation=record)
