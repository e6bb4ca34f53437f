"""What a run keeps in its folder of checkpoints: the newest ones, and the best student."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from compactbio.errors import UserError
from compactbio.records import atomic

BEST = "best"


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


def best(folder: Path) -> dict[str, Any] | None:
    """The record of the best student kept in a checkpoint folder: its step and its metrics."""
    atomic.recover(folder / BEST)
    record = folder / BEST / "best.json"
    return atomic.read_json(record) if record.exists() else None


def checkpoints(folder: Path) -> list[Path]:
    """The whole checkpoints of a folder, oldest first."""
    return sorted((p for p in folder.glob("checkpoint-*") if p.is_dir()), key=step_of)


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
