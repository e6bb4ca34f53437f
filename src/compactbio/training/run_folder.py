"""The folder of a run: begun, resumed or found finished by its `run.json`; its checkpoints, each whole."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from pydantic import BaseModel
from transformers import PreTrainedModel

from compactbio.errors import UserError
from compactbio.files import atomic_folder, file_digest, locked, read_json, recover, write_json
from compactbio.training import reporting

BEST = "best"
# Written last into a checkpoint: what it consists of.
SEAL = "complete.json"
_WEIGHTS = "model.safetensors"
_STATE = (_WEIGHTS, "optimizer.pt", "scheduler.pt", "trainer_state.json")


class _Seal(BaseModel):
    """The number of processes that wrote a checkpoint, and the SHA-256 of its files by their names."""

    processes: int
    files: dict[str, str]


def keep_best(
    folder: Path,
    student: PreTrainedModel,
    better: Callable[[dict[str, float], dict[str, float]], bool],
    metrics: dict[str, float],
    step: int,
) -> None:
    """Keep the student under `folder/best` where its metrics are `better` than those of the one kept there."""
    kept = best(folder)
    if kept is not None and not better(metrics, kept):
        return
    with refusing_full_disk(folder), atomic_folder(folder / BEST) as partial:
        student.save_pretrained(partial)
        write_json(partial / "best.json", {"step": step, **metrics})
        seal(partial, 1)


def best(folder: Path) -> dict[str, Any] | None:
    """The record of the best student kept in a checkpoint folder: its step and its metrics."""
    recover(folder / BEST)
    record = folder / BEST / "best.json"
    return read_json(record) if record.exists() else None


def seal(checkpoint: Path, processes: int) -> None:
    """Write down, last, what a checkpoint of so many processes consists of."""
    files = {path.name: file_digest(path) for path in sorted(checkpoint.iterdir())}
    write_json(checkpoint / SEAL, {"processes": processes, "files": files})


def newest(folder: Path, processes: int) -> tuple[Path | None, tuple[str, ...]]:
    """The newest complete checkpoint of a folder for so many processes, and a sentence on each that was passed over.

    None where there is no checkpoint at all. Raises UserError where there are some and none is complete, or the best
    student is not.
    """
    if (folder / BEST).exists() and (fault := _fault(folder / BEST, (_WEIGHTS, "best.json"), 1)):
        raise UserError(
            f"{folder / BEST}, the best student so far, is not complete ({fault}): delete this folder to keep the best "
            "of the steps that follow, or choose another --out."
        )
    refused: dict[str, str] = {}
    states = ["rng_state.pth"] if processes == 1 else [f"rng_state_{rank}.pth" for rank in range(processes)]
    for checkpoint in reversed(checkpoints(folder)):
        fault = _fault(checkpoint, (*_STATE, *states), processes)
        if fault is None:
            return checkpoint, tuple(
                f"{name} is not complete ({why}): the run was resumed from {checkpoint.name}."
                for name, why in refused.items()
            )
        refused[checkpoint.name] = fault
    if refused:
        listed = "; ".join(f"{name}: {why}" for name, why in refused.items())
        raise UserError(
            f"{folder} holds no complete checkpoint to resume from ({listed}): start as many processes as saved it, or "
            "delete this folder to begin the run again at step 0."
        )
    return None, ()


def _fault(checkpoint: Path, needed: tuple[str, ...], processes: int) -> str | None:
    """What is wrong with a checkpoint or a kept student, None where it is as it was saved."""
    try:
        sealed = _Seal.model_validate_json((checkpoint / SEAL).read_bytes())
    except (OSError, ValueError):
        return f"{SEAL} is missing or damaged"
    if sealed.processes != processes:
        counted = "1 process" if sealed.processes == 1 else f"{sealed.processes} processes"
        return f"it was saved by {counted}, not {processes}"
    for name in sorted({*needed, *sealed.files}):
        if not (checkpoint / name).is_file():
            return f"{name} is missing"
        if file_digest(checkpoint / name) != sealed.files.get(name):
            return f"{name} is cut off or damaged"
    return None


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, complete or not, oldest first."""
    named = (p for p in folder.glob("checkpoint-*") if re.fullmatch(r"checkpoint-[0-9]+", p.name))
    return sorted((p for p in named if p.is_dir()), key=step_of)


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
                f"{folder}: no space is left on the device; the last whole checkpoint is kept: free some space "
                "and go on with --resume."
            ) from error
        raise


RUN = "run.json"

T = TypeVar("T")


class Begun(NamedTuple):
    """The result of a finished run, or else the checkpoint to resume from, None for step 0; `notes` are sentences on
    checkpoints that were passed over, now or before."""

    result: dict[str, Any] | None
    checkpoint: Path | None = None
    notes: tuple[str, ...] = ()


def begin(out: Path, identity: dict[str, Any], *, resume: bool) -> Begun:
    """Begin or take up the run in `out`.

    `identity` is what must be the same for a run to be taken up, a JSON value. Raises UserError where the folder
    holds another run, this one unfinished without `resume`, none to resume, no complete checkpoint, or something else.
    """
    known = record(out)
    if known is not None and (known["result"] is not None or _begun(out)):
        differs = [key for key, value in identity.items() if known["identity"].get(key) != value]
        if differs:
            raise UserError(
                f"{out} holds a run of {_different(known['identity'], identity, differs)}; choose another --out."
            )
        if known["result"] is not None:
            return Begun(known["result"])
        if not resume:
            raise UserError(f"{out} holds this run unfinished: add --resume to go on, or choose another --out.")
        return _resumed(out, known)
    if resume and known is None:
        raise UserError(f"{out} holds no run to resume: leave --resume out to begin one.")
    if out.exists() and known is None and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty and holds no run of ours: choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / RUN, {"identity": identity, "result": None})
    return Begun(None)


def _resumed(out: Path, known: dict[str, Any]) -> Begun:
    checkpoint, passed_over = newest(out / "checkpoints", PartialState().num_processes)
    for note in passed_over:
        sys.stderr.write(f"{out}: {note}\n")
    notes = tuple(dict.fromkeys([*known.get("notes", ()), *passed_over]))
    if passed_over:
        write_json(out / RUN, {**known, "notes": notes})
    return Begun(None, checkpoint, notes)


def finish(out: Path, identity: dict[str, Any], result: dict[str, Any]) -> None:
    """Write down the result, which ends the run."""
    write_json(out / RUN, {"identity": identity, "result": result})


def record(out: Path) -> dict[str, Any] | None:
    """The record of the run in a folder, None where there is none. Raises UserError for one that is not ours."""
    path = out / RUN
    if not path.exists():
        return None
    try:
        found = read_json(path)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or "result" not in found or not isinstance(found.get("identity"), dict):
        raise UserError(f"{path} is no record of ours: choose another --out.")
    return found


@contextmanager
def held(processes: PartialState, out: Path) -> Iterator[None]:
    """Keep the folder of a run to its processes, for which the main one holds the lock. Raises UserError on all of them
    where another run has it."""
    with ExitStack() as stack:
        on_main(processes, lambda: stack.enter_context(locked(out)))
        yield


def on_main(processes: PartialState, work: Callable[[], T]) -> T:
    """Do something on the main process only, and give all processes its answer, or its UserError."""
    answer: list[Any] = [None, None]
    if processes.is_main_process:
        try:
            answer[0] = work()
        except UserError as error:
            answer[1] = str(error)
    if processes.num_processes > 1:
        broadcast_object_list(answer)
    if answer[1] is not None:
        raise UserError(answer[1])
    return answer[0]  # type: ignore[no-any-return]


def _begun(out: Path) -> bool:
    """Whether anything was done in a run's folder; one that was refused before its first step may be begun anew."""
    return any((out / name).exists() for name in (reporting.METRICS, "checkpoints"))


def _different(known: dict[str, Any], wanted: dict[str, Any], keys: list[str]) -> str:
    words = []
    for key in keys:
        old, new, name = known.get(key), wanted[key], key.replace("_", " ")
        if isinstance(old, dict) and isinstance(new, dict):
            fields = [f"{k} {old.get(k)!r}, not {new.get(k)!r}" for k in new if old.get(k) != new.get(k)]
            words.append(f"another {name} ({'; '.join(fields[:3])})")
        else:
            words.append(f"another {name}")
    return " and ".join(words)
