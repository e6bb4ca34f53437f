"""The folder of a training run: what its `run.json` records, how it is begun or resumed, and its checkpoints."""

import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from pydantic import BaseModel
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel

from compactbio import hub
from compactbio.errors import UserError
from compactbio.files import (
    atomic_folder,
    file_digest,
    locked,
    read_json,
    read_json_or_none,
    recover,
    refuse_foreign,
    value_digest,
    write_json,
)
from compactbio.modeling import hardware, loading
from compactbio.training.reporting import METRICS, TENSORBOARD

RUN = "run.json"
CHECKPOINTS = "checkpoints"
BEST = "best"
# Written last into a checkpoint: what it consists of.
_SEAL = "complete.json"
_WEIGHTS = "model.safetensors"
_TRAINER_STATE = "trainer_state.json"
_STATE = (_WEIGHTS, "optimizer.pt", "scheduler.pt", _TRAINER_STATE)
_NOT_PUBLISHED = (f"{CHECKPOINTS}/*", f"{TENSORBOARD}/*", "search/*", ".*")
_SHARED_SECONDS = 30.0  # how long a network's file system may take to show a new file to another machine

T = TypeVar("T")


class Begun(NamedTuple):
    """The result of a finished run, or else the checkpoint to resume from, None for step 0. `notes` are sentences on
    checkpoints that were passed over, now or before."""

    result: dict[str, Any] | None
    checkpoint: Path | None = None
    notes: tuple[str, ...] = ()


def processes() -> PartialState:
    """The processes of this run: one, or those that torchrun started."""
    return PartialState(cpu=not hardware.uses_gpu())


@contextmanager
def open_run(out: Path, inputs: dict[str, Any], *, resume: bool) -> Iterator[Begun]:
    """Begin a run in its folder, or resume it, as `begin` does; within it the folder is kept to this run.

    Raises UserError also where the processes of the run were given other inputs, or do not share the folder.
    """
    with held(out):
        _check_same_inputs(inputs)
        begun = on_main(lambda: begin(out, inputs, resume=resume))
        _check_shared(out)
        yield begun


def _check_same_inputs(inputs: dict[str, Any]) -> None:
    """Raise UserError on all processes where one was given other inputs than the first."""
    first, *others = gather_object([inputs])
    for number, other in enumerate(others, 1):
        if differing := [key for key in first if first[key] != other.get(key)]:
            raise UserError(
                f"Process {number} of this run was given {_different(other, first, differing)} than process 0: start "
                "all of them with the same command and the same files."
            )


def _check_shared(out: Path) -> None:
    """Raise UserError on all processes where one does not see what the first writes into the folder."""
    if processes().num_processes == 1:
        return
    mark = out / f".shared-{on_main(lambda: uuid4().hex)}"
    on_main(mark.touch)
    until = time.monotonic() + _SHARED_SECONDS
    while not (seen := mark.exists()) and time.monotonic() < until:
        time.sleep(0.1)
    everywhere = gather_object([seen])
    on_main(mark.unlink)
    if not all(everywhere):
        raise UserError(
            f"{out} is another folder for process {everywhere.index(False)} than for process 0, so no checkpoint could "
            "be resumed from: choose one that all machines share.",
            setting="out",
        )


def refuse_several(what: str) -> None:
    """Raise UserError where `what` (a sentence's subject) is done by several processes of torchrun."""
    if processes().num_processes > 1:
        raise UserError(f"{what} runs in one process: start it without torchrun.")


def begin(out: Path, inputs: dict[str, Any], *, resume: bool) -> Begun:
    """Begin the run in `out`, or resume it; `inputs`, a JSON value, must be the same for a run to be resumed.

    Raises UserError where the folder holds another run, this one unfinished without `resume` or finished with a model
    that is damaged, no run to resume, no complete checkpoint, or something else.
    """
    known = record(out)
    if known is None:
        if resume:
            raise UserError(f"{out} holds no run to resume: begin one without resuming.", setting="resume")
        refuse_foreign(out, "run", RUN)
        out.mkdir(parents=True, exist_ok=True)
    elif has_begun(out):
        # Records of older versions name no tokenizer.
        had = {"tokenizer": inputs.get("tokenizer"), **known["identity"]}
        if differing := [key for key, value in inputs.items() if _unnamed(had.get(key)) != _unnamed(value)]:
            raise UserError(
                f"{out} holds a run of {_different(had, inputs, differing)}; choose another output folder.",
                setting="out",
            )
        if known["result"] is not None:
            check_model(out)
            return Begun({**known["result"], "state": "already finished", "out": str(out)})
        if not resume:
            raise UserError(f"{out} holds this run unfinished: resume it, or choose another folder.", setting="resume")
        _check_places(out)
        checkpoint, passed_over = newest(out / CHECKPOINTS, processes().num_processes)
        sys.stderr.writelines(f"{out}: {note}\n" for note in passed_over)
        notes = tuple(dict.fromkeys([*known.get("notes", ()), *passed_over]))
        if passed_over:
            write_json(out / RUN, {**known, "notes": notes})
        return Begun(None, checkpoint, notes)
    # A run that was refused before its first step can be begun again, with other inputs too.
    write_json(out / RUN, {"identity": inputs, "result": None})
    return Begun(None)


def _check_places(out: Path) -> None:
    """Raise UserError where a file is in the place of a folder that a run writes, or a folder in that of a file."""
    for name, kind in {CHECKPOINTS: "folder", TENSORBOARD: "folder", METRICS: "file", _WEIGHTS: "file"}.items():
        place = out / name
        if place.exists() and place.is_dir() != (kind == "folder"):
            raise UserError(f"{place} is not a {kind}, which a run writes there: move it away.")


def check_model(out: Path) -> None:
    """Raise UserError where the model of a finished run is damaged (see `damage`)."""
    if lost := damage(out):
        raise UserError(
            f"{out} holds this run finished, but its model is damaged ({lost}): delete this folder to run it again, or "
            "choose another output folder.",
            setting="out",
        )


def damage(out: Path) -> str | None:
    """What is wrong with the model of a finished run, None where its files are there in their full length."""
    for name in ("config.json", "tokenizer.json"):
        if not isinstance(read_json_or_none(out / name), dict):
            return f"{name} is missing or damaged"
    weights = loading.weights_in(out)
    if not weights:
        return f"{_WEIGHTS} is missing"
    for file in weights:
        try:
            # Only the header is read, which says how long the file is.
            if file.suffix == ".safetensors":
                safe_open(file, framework="pt")
        except (OSError, SafetensorError):
            return f"{file.name} is cut off or damaged"
    return None


def finish(out: Path, inputs: dict[str, Any], result: dict[str, Any]) -> None:
    """Write down the result, which ends the run; of its folder only the name is kept."""
    write_json(out / RUN, {"identity": inputs, "result": {**result, "out": out.resolve().name}})


def has_begun(out: Path) -> bool:
    """Whether the run in a folder reached its first step: one that was refused before may be begun again as another."""
    known = record(out)
    done = known is not None and known["result"] is not None
    return known is not None and (done or any((out / name).exists() for name in (METRICS, CHECKPOINTS)))


def record(out: Path) -> dict[str, Any] | None:
    """The record of the run in a folder, None where there is none. Raises UserError for a file that is none."""
    path = out / RUN
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except ValueError:
        found = None
    if (
        not isinstance(found, dict)
        or not isinstance(found.get("result", ""), dict | None)
        or not isinstance(found.get("identity"), dict)
    ):
        raise UserError(f"{path} is not a record of compactbio: choose another output folder.", setting="out")
    return found


def push(out: str | Path, name: str, *, private: bool = True) -> str:
    """Upload the finished model of a run, without its checkpoints, to `name` on the hub; gives its address.

    `private`: whether a model that is made there can be seen by its owner alone. Raises UserError where the hub refuses
    or is out of reach.
    """
    return hub.push(Path(out), name, ignore=_NOT_PUBLISHED, private=private)


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Keep a folder to the processes of this run. Raises UserError on all of them where another run has it."""
    with ExitStack() as stack:
        on_main(lambda: stack.enter_context(locked(out)))
        yield


def on_main(action: Callable[[], T]) -> T:
    """Do something on the main process only; all processes return its result, or raise its UserError."""
    answer: list[Any] = [None]
    if processes().is_main_process:
        try:
            answer[0] = action()
        except UserError as error:
            answer[0] = error
    if processes().num_processes > 1:
        broadcast_object_list(answer)
    if isinstance(answer[0], UserError):
        raise answer[0]
    return answer[0]  # type: ignore[no-any-return]


def _unnamed(value: Any) -> Any:
    """A part of a record without the names of models and files whose content it knows: these may be renamed."""
    if isinstance(value, list):
        return [_unnamed(one) for one in value]
    if not isinstance(value, dict):
        return value
    # The models of a recipe are known by the digests beside it.
    named = ("teacher", "init") if "loss" in value else ("name",) if value.get("sha256") else ()
    return {key: one for key, one in value.items() if key not in named}


def _different(known: dict[str, Any], wanted: dict[str, Any], keys: list[str]) -> str:
    words = []
    for key in keys:
        old, new, name = known.get(key), wanted[key], key.replace("_", " ")
        other = "other" if key in ("data", "settings", "teachers", "tokens_per_batch") else "another"
        if isinstance(old, dict) and isinstance(new, dict):
            words.append(f"{other} {name} ({_fields(old, new)})")
        elif isinstance(old, list) and isinstance(new, list):
            pairs = [pair for pair in zip(old, new, strict=False) if pair[0] != pair[1]]
            named = len(old) == len(new) and isinstance(pairs[0][0], dict)
            words.append(f"other {name} ({_fields(*pairs[0])})" if named else f"other {name}")
        else:
            words.append(f"{other} {name}")
    return " and ".join(words)


def _fields(old: dict[str, Any], new: dict[str, Any]) -> str:
    differing = [k for k in {**old, **new} if old.get(k) != new.get(k)]
    named = "; ".join(f"{k} {old.get(k)!r}, not {new.get(k)!r}" for k in differing[:3])
    return re.sub(r"'([0-9a-f]{12})[0-9a-f]{52}'", r"\1", named)  # of a SHA-256 the beginning


# -- checkpoints


class _Seal(BaseModel):
    """The number of processes that wrote a checkpoint, the SHA-256 of its files by their names, and the digest of its
    run, None where it was written by an earlier version or outside a run's folder."""

    processes: int
    files: dict[str, str]
    run: str | None = None


def seal(checkpoint: Path, processes: int, folder: Path) -> None:
    """Write down, last, what a checkpoint by this number of processes in a folder of checkpoints consists of."""
    files = {path.name: file_digest(path) for path in sorted(checkpoint.iterdir())}
    write_json(checkpoint / _SEAL, {"processes": processes, "files": files, "run": _digest(folder)})


def _digest(folder: Path) -> str | None:
    """The digest of what the run of a folder of checkpoints is made of, None where the folder is not of a run."""
    with suppress(UserError):  # a file of that name that is not a record
        if known := record(folder.parent):
            return value_digest(known["identity"])
    return None


def keep_best(folder: Path, student: PreTrainedModel, metrics: dict[str, float], step: int) -> None:
    """Keep the student in `folder/best`, in place of the one there."""
    with refusing_full_disk(folder), atomic_folder(folder / BEST) as partial:
        student.save_pretrained(partial, save_original_format=False)
        write_json(partial / "best.json", {"step": step, **metrics})
        seal(partial, 1, folder)


def best(folder: Path) -> dict[str, Any] | None:
    """The record of the best student in a folder of checkpoints: its step and its metrics."""
    recover(folder / BEST)
    kept = folder / BEST / "best.json"
    return read_json(kept) if kept.exists() else None


def newest(folder: Path, processes: int) -> tuple[Path | None, tuple[str, ...]]:
    """The newest complete checkpoint of a folder, and a sentence on each that was passed over.

    None where there is no checkpoint at all. Raises UserError where there are some and none is complete, also for
    another number of `processes`, or where the best student is not.
    """
    if (folder / BEST).exists() and (problem := _problem(folder / BEST, (_WEIGHTS, "best.json"), 1)):
        raise UserError(
            f"{folder / BEST}, the best student so far, cannot be used ({problem}): delete this folder to keep the "
            "best of the steps that follow, or choose another output folder."
        )
    refused: dict[str, str] = {}
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    for checkpoint in reversed(checkpoints(folder)):
        problem = _problem(checkpoint, (*_STATE, *states), processes) or _misnamed(checkpoint)
        if problem is None:
            resumed = f"the run was resumed from {checkpoint.name}."
            return checkpoint, tuple(f"{name} was passed over ({why}): {resumed}" for name, why in refused.items())
        refused[checkpoint.name] = problem
    if refused:
        listed = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise UserError(
            f"{folder} holds no checkpoint to resume from ({listed}): start as many processes as saved it, or "
            "delete this folder to begin the run again at step 0."
        )
    return None, ()


def _problem(checkpoint: Path, needed: tuple[str, ...], processes: int) -> str | None:
    """What is wrong with a checkpoint or a kept student, None where it is as it was saved."""
    try:
        sealed = _Seal.model_validate_json((checkpoint / _SEAL).read_bytes())
    except (OSError, ValueError):
        return f"{_SEAL} is missing or damaged"
    if sealed.processes != processes:
        counted = "1 process" if sealed.processes == 1 else f"{sealed.processes} processes"
        return f"it was saved by {counted}, not {processes}"
    if sealed.run not in (None, _digest(checkpoint.parent)):
        return "it was saved by another run"
    for name in sorted({*needed, *sealed.files}):
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if file_digest(checkpoint / name) != sealed.files.get(name):
            return f"{name} is cut off or damaged"
    return None


def _misnamed(checkpoint: Path) -> str | None:
    """What is wrong with the name of a complete checkpoint, None where it is that of its step."""
    step = read_json(checkpoint / _TRAINER_STATE)["global_step"]
    return None if step == step_of(checkpoint) else f"it was saved at step {step}"


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, complete or not, oldest first."""
    named = (path for path in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-[0-9]+", path.name))
    return sorted((path for path in named if path.is_dir()), key=step_of)


def step_of(checkpoint: Path | None) -> int:
    """The step that a checkpoint was saved at; 0 for none."""
    return int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0


@contextmanager
def refusing_full_disk(folder: Path) -> Iterator[None]:
    """Turn whatever a library raises on a full disk into one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        # safetensors and torch.save raise their own kinds, with the system's words in them at best.
        if "os error 28" in str(error) or "No space left" in str(error) or shutil.disk_usage(folder).free < 2**20:
            raise UserError(
                f"{folder}: no space is left on the device; the last complete checkpoint is kept: free some space and "
                "resume the run.",
                setting="resume",
            ) from error
        raise
