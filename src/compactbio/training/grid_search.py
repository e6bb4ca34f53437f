"""A search for hyper-parameters on devel: a stated grid, a fine-tuning run per point, the best one kept."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from compactbio.errors import UserError
from compactbio.files import read_json_or_none, refuse_foreign, refuse_inside, write_json
from compactbio.modeling import loading
from compactbio.training import run_folder
from compactbio.training.finetuning import Finetuned, collect, finetune, finish

SEARCH = "search.json"
# Multiples of the default learning rate, and batch sizes: BioBERT's own grid is of this kind (Lee et al. 2020, 3.3).
RATES = (0.5, 1.0, 2.0)
BATCHES = (16, 32)


def search(
    data: str | Path | Sequence[str | Path],
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

    The runs are in `out/search/`, their scores in `search.json`; the best is copied to `out`. Runs that are finished
    are not done again.

    Args:
        data, model, out, task, **options: as for `finetune`.
        overrides: as for `finetune`; what they set is not searched.
        train_on: must be "train".
        resume: whether there must be a search to resume in `out`.

    Raises UserError as `finetune` does, without a devel split, and for an `out` that holds anything but this search.
    """
    run_folder.refuse_several("A search")
    out, fixed = Path(out), dict(overrides or {})
    inputs = collect(data, model, task=task, overrides=fixed, **options)
    if train_on != "train" or not all("devel" in part.data.files for part in inputs.corpora.parts):
        raise UserError(
            "A search chooses by devel: the data need a devel split that is not trained on.", setting="search"
        )
    refuse_inside(out, inputs.places)
    rate = inputs.settings.learning_rate
    every: dict[str, list[Any]] = {"learning_rate": [rate * factor for factor in RATES], "batch_size": list(BATCHES)}
    grid = {name: values for name, values in every.items() if name not in fixed}
    wanted = {"grid": grid, **inputs.record()}
    if resume and not (out / SEARCH).exists():
        raise UserError(f"{out} holds no search to resume: begin one without resuming.", setting="resume")
    with run_folder.held(out):
        if _finished(out, wanted):
            run_folder.check_model(out)
            return Finetuned(**{**_record(out)["result"], "state": "already finished", "out": str(out)})
        trials: list[tuple[dict[str, Any], Finetuned]] = []
        for values in product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            place = out / "search" / "-".join(f"{name}={value:g}" for name, value in point.items())
            begun, chosen = (place / run_folder.RUN).exists(), {**fixed, **point}
            result = finetune(data, model, place, task=task, overrides=chosen, resume=begun, **options)
            if result.state == "stopped":
                raise KeyboardInterrupt
            trials.append((point, result))
        return _keep_best(out, wanted, trials)


def _finished(out: Path, wanted: dict[str, Any]) -> bool:
    """Begin or resume a search in its folder; whether it is finished already."""
    kept = out / SEARCH
    refuse_foreign(out, "search", SEARCH)
    known = read_json_or_none(kept)
    if kept.exists() and not (isinstance(known, dict) and {"search", "trials"} <= known.keys()):
        raise UserError(f"{kept} is not a record of a search: choose another output folder.", setting="out")
    # A search of nothing, where all is set, has its one run in the folder itself.
    runs = (out / "search", *out.glob("search/*"))
    if known is None or (known["search"] != wanted and not any(map(run_folder.has_begun, runs))):
        # Also where another search was refused before its first run.
        out.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"search": wanted, "trials": None})
        return False
    if known["search"] != wanted:
        raise UserError(
            f"{out} holds a search of another grid, other settings, data, models or texts: choose another output "
            "folder.",
            setting="out",
        )
    return known["trials"] is not None


def _record(out: Path) -> dict[str, Any]:
    record = run_folder.record(out)
    assert record is not None
    return record


def _keep_best(out: Path, wanted: dict[str, Any], trials: list[tuple[dict[str, Any], Finetuned]]) -> Finetuned:
    """Make the best run the result, with a card of its own; `search.json` last, which ends the search."""
    best = max((result for _, result in trials), key=lambda result: result.devel or 0.0)
    for file in Path(best.out).iterdir():
        if file.is_file():
            shutil.copy2(file, out / file.name)
    table = tuple(
        {**point, "devel": result.devel, "epoch": result.epoch, "kept": result is best} for point, result in trials
    )
    result = replace(best, out=str(out), trials=table)
    with loading.quiet():
        model = loading.load_for(loading.find(out), best.task)
    finish(out, _record(out)["identity"], result, model)
    write_json(out / SEARCH, {"search": wanted, "trials": table})
    return result
