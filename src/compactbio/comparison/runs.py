"""The runs of a comparison: each model fine-tuned and scored on each data set, from each seed, whatever fails."""

import json
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from compactbio.comparison.suite import FILES, DataSet, Suite
from compactbio.comparison.table import Run
from compactbio.errors import UserError
from compactbio.evaluation.scoring import add_to_card, evaluate
from compactbio.files import read_json, value_digest, write_json, write_text
from compactbio.modeling import loading
from compactbio.tasks import data as datasets
from compactbio.tasks.settings import settings
from compactbio.training import run_folder
from compactbio.training.finetuning import finetune

RUNS = "runs"
EVALUATION = "evaluation.json"
FAILURE = "failure.txt"
# The keys of an evaluation; another file of that name is ignored.
_KEYS = {"task", "metric", "scores", "statistic", "unit", "units", "per_type", "mistakes", "notes", "data", "model"}


class Stopped(Exception):  # noqa: N818 (not an error)
    """A signal ended a run; what was done is kept, and the same comparison resumes from there."""


def check(suite: Suite, out: str | Path) -> None:
    """Find every model and data set of a suite, with its task, settings and test split, before the first run.

    Raises UserError for the first that is missing or wrong, and where `out` holds runs of another suite, or other
    files.
    """
    out = Path(out)
    if out.exists() and not (out.is_dir() and ((out / RUNS).is_dir() or not any(out.iterdir()))):
        raise UserError(f"{out} is not empty and does not hold a comparison: choose another folder.", setting="out")
    sources = {name: loading.find(where) for name, where in suite.models.items()}
    for source in sources.values():
        loading.tokenizer_of(source)
    for name, data in suite.data.items():
        for fold in data.folds or ("",):
            found = _found(data, fold, name)
            for split in ("train", "test"):
                if split not in found.files:
                    raise UserError(f"{name}: there is no {split} file in {data.path}; a comparison needs both.")
            if suite.train_on == "train+devel" and "devel" not in found.files:
                raise UserError(f"{name}: train_on is train+devel, and there is no devel file in {data.path}.")
            _check_answers(name, found)
            for source in sources.values():
                settings(found.task, int(source.config.hidden_size), suite.settings_for(name))
    for key in _keys(suite):
        _check_same(suite, key, _folder(out, *key) / "model", sources[key[0]])


def _check_answers(name: str, found: datasets.Data) -> None:
    if found.task == "qa" and not found.gold and not any(q.answers for d in found.read("test") for q in d.questions):
        raise UserError(
            f"{name}: its test questions have no answers to compare with; name BioASQ's golden file under `gold`, or "
            "put it into the folder (with 'golden' in its name)."
        )


def _check_same(suite: Suite, key: tuple[str, str, int, str], place: Path, source: loading.Source) -> None:
    """Refuse a folder whose run was made with other settings, data or weights than the suite's."""
    record = run_folder.record(place)
    if record is None:
        return
    model, name, seed, fold = key
    known = record["identity"]
    data = suite.data[name]
    found = _found(data, fold, name)
    chosen = settings(found.task, int(source.config.hidden_size), {**suite.settings_for(name), "seed": seed})
    limit = int(source.config.max_position_embeddings)
    wanted = {
        "settings": {**chosen.record(), "max_length": min(chosen.max_length, limit)},
        "train_on": suite.train_on,
        "weights": source.digest,
        "data": {key: value for key, value in found.digests.items() if key in ("train", "devel")},
    }
    had = {
        "settings": known["settings"],
        "train_on": known["train_on"],
        "weights": known["model"]["sha256"],
        "data": {key: known["data"][key] for key in ("train", "devel") if key in known["data"]},
    }
    differs = [key for key in wanted if wanted[key] != had[key]]
    if differs:
        raise UserError(
            f"{place.parent} holds a run of {model} on {name} with other {' and '.join(differs)} than the suite says: "
            "choose another folder, or delete that one.",
            setting="out",
        )


def kept_runs(suite: Suite, out: str | Path) -> list[Run]:
    """All runs of a suite as they are in `out`, without running any; one on other test data counts as not run."""
    found = []
    for key in _keys(suite):
        place, data = _folder(Path(out), *key), suite.data[key[1]]
        kept = _kept(place, *key)
        whole = kept is not None and _is_of(kept, place, data, key[3], key[1])
        found.append(kept if kept is not None and whole else _not_done(place, *key))
    return found


def run_suite(
    suite: Suite,
    out: str | Path,
    *,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    report: Callable[[str], None],
) -> list[Run]:
    """Do every run of a suite that is not done, under `out/runs/`, and return all.

    A run that fails is returned with its reason, its traceback in `failure.txt`, and is tried again the next time.
    `report` is called with a line per run. Raises Stopped where a signal ends a run.
    """
    keys = list(_keys(suite))
    found = []
    for number, key in enumerate(keys, 1):
        started = time.monotonic()
        done = _run(suite, key, _folder(Path(out), *key), precision, tokens_per_batch)
        found.append(done)
        result = f"{100 * done.main:.2f}" if done.state == "done" else f"failed: {done.error}"
        minutes = (time.monotonic() - started) / 60
        report(f"[{number}/{len(keys)}] {done.data}, {done.model}, {done.label}: {result} ({minutes:.1f} min)")
    return found


def _keys(suite: Suite) -> Iterator[tuple[str, str, int, str]]:
    """The model, data set, seed and fold of each run; first seeds first, so that a whole table is done early."""
    rounds = max(len(suite.seeds_for(name)) for name in suite.data)
    for turn in range(rounds):
        for name, data in suite.data.items():
            for seed in suite.seeds_for(name)[turn : turn + 1]:
                for fold in data.folds or ("",):
                    for model in suite.models:
                        yield model, name, seed, fold


def _folder(out: Path, model: str, data: str, seed: int, fold: str) -> Path:
    # A hash after the readable name: names may hold slashes, and may differ in them alone.
    named = f"{_safe(data)}-{_safe(model)}-{value_digest([data, model])[:6]}"
    return out / RUNS / named / (f"fold-{fold}-seed-{seed}" if fold else f"seed-{seed}")


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)


def _found(data: DataSet, fold: str, name: str) -> datasets.Data:
    return datasets.find(_place(data, fold), data.task, name, format=data.format)


def _place(data: DataSet, fold: str) -> Path | dict[str, Path]:
    if data.path is not None:
        return data.path / fold if fold else data.path
    return {key: path for key in FILES if (path := getattr(data, key)) is not None}


def _run(suite: Suite, key: tuple[str, str, int, str], place: Path, precision: str, tokens: int | None) -> Run:
    model, name, seed, fold = key
    data = suite.data[name]
    try:
        begun = run_folder.record(place / "model")
        if begun is not None:
            # It may have been begun on another machine: it keeps its precision and batch size.
            precision, tokens = begun["identity"]["precision"], begun["identity"]["tokens_per_batch"]
        tuned = finetune(
            _place(data, fold),
            suite.models[model],
            place / "model",
            task=data.task,
            format=data.format,
            overrides={**suite.settings_for(name), "seed": seed},
            train_on=suite.train_on,
            name=name,
            precision=precision,
            tokens_per_batch=tokens,
            resume=begun is not None,
        )
        if tuned.state == "stopped":
            raise Stopped
        kept = _kept(place, *key)
        if kept is not None and tuned.state == "already finished" and _is_of(kept, place, data, fold, name):
            return kept
        evaluation = evaluate(
            str(place / "model"),
            _place(data, fold),
            task=data.task,
            format=data.format,
            name=name,
            precision=precision,
            tokens_per_batch=tokens,
        )
        add_to_card(place / "model", evaluation)
        write_json(place / EVALUATION, {**evaluation.record(), "seed": seed})
        (place / FAILURE).unlink(missing_ok=True)
    except (Stopped, KeyboardInterrupt):
        raise Stopped from None
    except UserError as error:
        return _failed(key, place, str(error))
    except Exception as error:
        return _failed(key, place, f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}")
    kept = _kept(place, *key)
    assert kept is not None
    return kept


def _failed(key: tuple[str, str, int, str], place: Path, reason: str) -> Run:
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / FAILURE, f"{reason}\n\n{traceback.format_exc()}")
    return Run(*key, "failed", reason, None)


def _not_done(place: Path, model: str, data: str, seed: int, fold: str) -> Run:
    failure = place / FAILURE
    if not failure.exists():
        return Run(model, data, seed, fold, "not run", "", None)
    reason = failure.read_text(encoding="utf-8").partition("\n")[0]
    return Run(model, data, seed, fold, "failed", reason, None)


def _kept(place: Path, model: str, data: str, seed: int, fold: str) -> Run | None:
    try:
        record: dict[str, Any] = read_json(place / EVALUATION)
    except (OSError, json.JSONDecodeError):
        return None
    if not isinstance(record, dict) or not record.keys() >= _KEYS:
        return None
    return Run(model, data, seed, fold, "done", "", record)


def _is_of(run: Run, place: Path, data: DataSet, fold: str, name: str) -> bool:
    """Whether a kept evaluation is of the model and the test data as they are now."""
    digests = _found(data, fold, name).digests
    used = run.scored["data"]
    own = loading.find(str(place / "model")).digest
    kept = (run.scored["model"]["sha256"], used["sha256"], used.get("gold_sha256"))
    return kept == (own, digests["test"], digests.get("gold"))
