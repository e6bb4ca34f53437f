"""A search for hyper-parameters on devel: a stated grid, a fine-tuning run a point, the best one kept."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from compactbio.errors import UserError
from compactbio.files import read_json, write_json, write_text
from compactbio.modeling import loading
from compactbio.modeling.families import encoder_parameters
from compactbio.tasks import data as datasets
from compactbio.tasks.registry import TASKS
from compactbio.tasks.settings import settings
from compactbio.training import run_folder
from compactbio.training.cards import finetuned_card
from compactbio.training.finetuning import Finetuned, finetune

SEARCH = "search.json"
# Multiples of the default learning rate, and batch sizes: BioBERT's own grid is of this kind (Lee et al. 2020, 3.3).
RATES = (0.5, 1.0, 2.0)
BATCHES = (16, 32)


def search(
    data: str | Path,
    model: str | Path,
    out: str | Path,
    *,
    task: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    train_on: str = "train",
    resume: bool = False,
    **options: Any,
) -> Finetuned:
    """Fine-tune once for each point of the grid of `RATES` and `BATCHES`, and keep the run with the best devel score.

    The trials lie in `out/search/`, each a run of its own that is not done again, their scores in `search.json`; the
    best becomes `out`. What `overrides` set is not searched. Raises UserError as `finetune` does, without a devel
    split, without optuna, and for an `out` that holds anything but this search.
    """
    out = Path(out)
    if not find_spec("optuna"):
        raise UserError("--search needs optuna: pip install 'compactbio[search]'.")
    import optuna

    found, fixed = datasets.find(data, task, format=options.get("format")), dict(overrides or {})
    if train_on != "train" or "devel" not in found.files:
        raise UserError("--search chooses by devel: the data need a devel split that is not trained on.")
    source = loading.find(model)
    grid = _grid(found.task, source, fixed)
    wanted = {"grid": grid, "fixed": fixed, "data": found.digests, "model": source.digest, **options}
    if resume and not (out / SEARCH).exists():
        raise UserError(f"{out} holds no search to resume: leave --resume out to begin one.")
    with run_folder.held(PartialState(cpu=not torch.cuda.is_available()), out):
        done = _begin(out, wanted)
        if done is not None:
            return done
        trials: list[tuple[dict[str, Any], Finetuned]] = []

        def objective(trial: Any) -> float:
            point = {name: trial.suggest_categorical(name, values) for name, values in grid.items()}
            place = out / "search" / "-".join(f"{name}={value:g}" for name, value in point.items())
            again = (place / "run.json").exists()
            result = finetune(
                data, model, place, task=task, overrides={**fixed, **point}, train_on=train_on, resume=again, **options
            )
            if result.state == "stopped":
                raise KeyboardInterrupt
            trials.append((point, result))
            return float(result.devel or 0.0)

        # What ends a trial is told by us, in a sentence.
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler(grid, seed=0))
        study.optimize(objective, catch=())
        return _keep(out, wanted, trials)


def _begin(out: Path, wanted: dict[str, Any]) -> Finetuned | None:
    """Begin or take up a search in `out`: the result of a finished one."""
    kept = out / SEARCH
    if not kept.exists():
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is not empty and holds no search of ours: choose another --out.")
        out.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"search": wanted, "trials": None})
        return None
    known = read_json(kept)
    if known["search"] != wanted:
        if not (out / "search").exists():
            # It was refused before its first trial.
            write_json(kept, {"search": wanted, "trials": None})
            return None
        raise UserError(f"{out} holds a search of another grid, other settings, data or model: choose another --out.")
    if known["trials"] is None:
        return None
    record = run_folder.record(out)
    assert record is not None
    return Finetuned(**{**record["result"], "state": "already finished", "out": str(out)})


def _grid(task: str, source: loading.Source, fixed: Mapping[str, Any]) -> dict[str, list[Any]]:
    rate = settings(task, int(source.config.hidden_size), {}).learning_rate
    grid: dict[str, list[Any]] = {"learning_rate": [rate * factor for factor in RATES], "batch_size": list(BATCHES)}
    return {name: values for name, values in grid.items() if name not in fixed}


def _keep(out: Path, wanted: dict[str, Any], trials: list[tuple[dict[str, Any], Finetuned]]) -> Finetuned:
    """Make the best trial the result, with a card of its own; `search.json` last, which ends the search."""
    best = max((result for _, result in trials), key=lambda result: result.devel or 0.0)
    for file in Path(best.out).iterdir():
        if file.is_file():
            shutil.copy2(file, out / file.name)
    table = tuple({**point, "devel": result.devel, "epoch": result.epoch} for point, result in trials)
    result = replace(best, out=str(out), trials=table)
    record = run_folder.record(out)
    assert record is not None
    with loading.quiet():
        parameters = encoder_parameters(loading.load_for(loading.find(str(out)), TASKS[best.task].auto))
    run_folder.finish(out, record["identity"], {**asdict(result), "out": out.name})
    write_text(out / "README.md", finetuned_card(out.name, record["identity"], asdict(result), parameters))
    write_json(out / SEARCH, {"search": wanted, "trials": table})
    return result
