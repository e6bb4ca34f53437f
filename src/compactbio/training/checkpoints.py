"""What a run keeps in its folder of checkpoints: the newest ones, and the best student; each is whole or is refused."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from transformers import PreTrainedModel

from compactbio.errors import UserError
from compactbio.records import atomic, hashes

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
    with refusing_full_disk(folder), atomic.folder(folder / BEST) as partial:
        student.save_pretrained(partial)
        atomic.write_json(partial / "best.json", {"step": step, **metrics})
        seal(partial, 1)


def best(folder: Path) -> dict[str, Any] | None:
    """The record of the best student kept in a checkpoint folder: its step and its metrics."""
    atomic.recover(folder / BEST)
    record = folder / BEST / "best.json"
    return atomic.read_json(record) if record.exists() else None


def seal(checkpoint: Path, processes: int) -> None:
    """Write down, last, what a checkpoint of so many processes consists of."""
    files = {path.name: hashes.of_file(path) for path in sorted(checkpoint.iterdir())}
    atomic.write_json(checkpoint / SEAL, {"processes": processes, "files": files})


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
        if hashes.of_file(checkpoint / name) != sealed.files.get(name):
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
