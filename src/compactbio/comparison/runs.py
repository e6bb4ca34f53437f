"""The runs of a comparison: each model fine-tuned and scored on each data set, from each seed, whatever fails."""

import json
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from compactbio.comparison.suite import FILES, DataSet, Suite
from compactbio.comparison.table import Cell
from compactbio.errors import UserError
from compactbio.evaluation.scoring import add_to_card, evaluate
from compactbio.files import read_json, refuse_foreign, value_digest, write_json, write_text
from compactbio.modeling import loading
from compactbio.tasks import data as datasets
from compactbio.tasks.settings import settings
from compactbio.training import run_folder
from compactbio.training.finetuning import finetune

RUNS = "runs"
EVALUATION = "evaluation.json"
FAILURE = "failure.txt"
# What an evaluation of ours has at the least; another file of that name is passed over.
_OURS = {"task", "metric", "scores", "statistic", "unit", "units", "per_type", "mistakes", "notes", "data", "model"}


class Stopped(Exception):  # noqa: N818 (no error: a wish)
    """A signal ended a run; what was done is kept, and the same comparison goes on from there."""


def check(suite: Suite, out: str | Path) -> None:
    """Find every model and data set of a suite, with its task, settings and test split, before the first run.

    Raises UserError for the first that cannot be had, and where `out` holds runs of another suite, or what is not ours.
    """
    out = Path(out)
    refuse_foreign(out, "comparison", RUNS)
    sources = {name: loading.find(where) for name, where in suite.models.items()}
    for source in sources.values():
        loading.tokenizer_of(source)
    for name, data in suite.data.items():
        for fold in data.folds or ("",):
            found = datasets.find(_place(data, fold), data.task, name, format=data.format)
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
    found = datasets.find(_place(data, fold), data.task, name, format=data.format)
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
    differs = [part for part in wanted if wanted[part] != had[part]]
    if differs:
        raise UserError(
            f"{place.parent} holds a run of {model} on {name} with other {' and '.join(differs)} than the suite says: "
            "choose another --out, or delete that folder."
        )


def cells(suite: Suite, out: str | Path) -> list[Cell]:
    """All cells of a suite as they stand in `out`, without running any; one of other test data is not run."""
    found = []
    for key in _keys(suite):
        place, data = _folder(Path(out), *key), suite.data[key[1]]
        kept = _kept(place, *key)
        whole = kept is not None and _is_of(kept, place, data, key[3], key[1])
        found.append(kept if kept is not None and whole else _not_done(place, *key))
    return found


def run(
    suite: Suite,
    out: str | Path,
    *,
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    tell: Callable[[str], None],
) -> list[Cell]:
    """Do every run of a suite that is not done, under `out/runs/`, and give all cells.

    A run that fails is a cell with its reason, its traceback in `failure.txt`, and is tried again the next time.
    `tell` gets a line a run. Raises Stopped where a signal ends a run.
    """
    keys = list(_keys(suite))
    found = []
    for number, key in enumerate(keys, 1):
        started = time.monotonic()
        cell = _cell(suite, key, _folder(Path(out), *key), precision, tokens_per_batch)
        found.append(cell)
        said = f"{100 * cell.main:.2f}" if cell.state == "done" else f"failed: {cell.error}"
        minutes = (time.monotonic() - started) / 60
        tell(f"[{number}/{len(keys)}] {cell.data}, {cell.model}, {cell.run}: {said} ({minutes:.1f} min)")
    return found


def _keys(suite: Suite) -> Iterator[tuple[str, str, int, str]]:
    """The model, data set, seed and fold of each cell; first seeds first, so that a whole table is there early."""
    rounds = max(len(suite.seeds_for(name)) for name in suite.data)
    for turn in range(rounds):
        for name, data in suite.data.items():
            for seed in suite.seeds_for(name)[turn : turn + 1]:
                for fold in data.folds or ("",):
                    for model in suite.models:
                        yield model, name, seed, fold


def _folder(out: Path, model: str, data: str, seed: int, fold: str) -> Path:
    # A hash beside the readable part: names may hold slashes, and may differ in them alone.
    named = f"{_safe(data)}-{_safe(model)}-{value_digest([data, model])[:6]}"
    return out / RUNS / named / (f"fold-{fold}-seed-{seed}" if fold else f"seed-{seed}")


def _safe(name: str) -> str:
    return "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in name)


def _place(data: DataSet, fold: str) -> Path | dict[str, Path]:
    if data.path is not None:
        return data.path / fold if fold else data.path
    return {key: path for key in FILES if (path := getattr(data, key)) is not None}


def _cell(suite: Suite, key: tuple[str, str, int, str], place: Path, precision: str, tokens: int | None) -> Cell:
    model, name, seed, fold = key
    data = suite.data[name]
    try:
        begun = run_folder.record(place / "model")
        if begun is not None:
            # Begun on another machine, perhaps: precision and budget stay the run's own.
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
    cell = _kept(place, *key)
    assert cell is not None
    return cell


def _failed(key: tuple[str, str, int, str], place: Path, reason: str) -> Cell:
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / FAILURE, f"{reason}\n\n{traceback.format_exc()}")
    return Cell(*key, "failed", reason, None)


def _not_done(place: Path, model: str, data: str, seed: int, fold: str) -> Cell:
    failure = place / FAILURE
    if not failure.exists():
        return Cell(model, data, seed, fold, "not run", "", None)
    reason = failure.read_text(encoding="utf-8").partition("\n")[0]
    return Cell(model, data, seed, fold, "failed", reason, None)


def _kept(place: Path, model: str, data: str, seed: int, fold: str) -> Cell | None:
    try:
        record: dict[str, Any] = read_json(place / EVALUATION)
    except (OSError, json.JSONDecodeError):
        return None
    if not isinstance(record, dict) or not record.keys() >= _OURS:
        return None
    return Cell(model, data, seed, fold, "done", "", record)


def _is_of(cell: Cell, place: Path, data: DataSet, fold: str, name: str) -> bool:
    """Whether a kept evaluation is of the model and the test data as they are now."""
    digests = datasets.find(_place(data, fold), data.task, name, format=data.format).digests
    used = cell.scored["data"]
    own = loading.find(str(place / "model")).digest
    kept = (cell.scored["model"]["sha256"], used["sha256"], used.get("gold_sha256"))
    return kept == (own, digests["test"], digests.get("gold"))
