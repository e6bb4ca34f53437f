"""The folder of a run: begun, taken up or found finished by its `run.json`, which says what the run is made of."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from compactbio.errors import UserError
from compactbio.records import atomic, locks
from compactbio.training import checkpoints, report

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
    atomic.write_json(out / RUN, {"identity": identity, "result": None})
    return Begun(None)


def _resumed(out: Path, known: dict[str, Any]) -> Begun:
    checkpoint, passed_over = checkpoints.newest(out / "checkpoints", PartialState().num_processes)
    for note in passed_over:
        sys.stderr.write(f"{out}: {note}\n")
    notes = tuple(dict.fromkeys([*known.get("notes", ()), *passed_over]))
    if passed_over:
        atomic.write_json(out / RUN, {**known, "notes": notes})
    return Begun(None, checkpoint, notes)


def finish(out: Path, identity: dict[str, Any], result: dict[str, Any]) -> None:
    """Write down the result, which ends the run."""
    atomic.write_json(out / RUN, {"identity": identity, "result": result})


def record(out: Path) -> dict[str, Any] | None:
    """The record of the run in a folder, None where there is none. Raises UserError for one that is not ours."""
    path = out / RUN
    if not path.exists():
        return None
    try:
        found = atomic.read_json(path)
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
        on_main(processes, lambda: stack.enter_context(locks.held(out)))
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
    return any((out / name).exists() for name in (report.METRICS, "checkpoints"))


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
