"""What reports on a run: a bar with speed and time left, `metrics.jsonl`, TensorBoard."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from accelerate import PartialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerState

from compactbio.files import parse_json, write_text
from compactbio.progress import time_left

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"


class Reporter(TrainerCallback):  # type: ignore[misc]
    """Reports each line of the Trainer's log, on the main process only; to be closed after the run."""

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: dict[str, float], **_: Any) -> None:
        # The Trainer's own closing line is left out: its rates count steps as if they were examples.
        if state.is_world_process_zero and "train_runtime" not in logs:
            self.report(state, logs)

    def report(self, state: TrainerState, logs: dict[str, float]) -> None:
        """Report a line of the log."""
        raise NotImplementedError

    def close(self) -> None:
        """Finish what is under way; safe to call twice."""


class Metrics(Reporter):
    """Appends every line of the log to `metrics.jsonl`; a resumed run first drops the lines after its checkpoint."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            kept = [line for line in read(self._path) if line["step"] <= state.global_step and state.global_step]
            write_text(self._path, "".join(json.dumps(line) + "\n" for line in kept))

    def report(self, state: TrainerState, logs: dict[str, float]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **logs, "time": round(time.time(), 3)}) + "\n")


def read(path: Path) -> list[dict[str, float]]:
    """The lines of a `metrics.jsonl`, up to the first that a kill cut off or that is damaged otherwise."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = parse_json(text)
        except ValueError:
            break
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            break
        lines.append(line)
    return lines


class Bar(Reporter):
    """A progress bar on stderr with loss, tokens per second and time left; plain lines where it is not a terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal)
        self._started, self._first = 0.0, 0

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._task = self._bar.add_task(self._label, total=state.max_steps, completed=state.global_step)
        if state.is_world_process_zero:
            self._bar.start()

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        # Not in on_train_begin: the validation before the first step would be counted as a step's time.
        if not self._started:
            self._started, self._first = time.monotonic(), state.global_step

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        self._bar.update(self._task, completed=state.global_step)

    def report(self, state: TrainerState, logs: dict[str, float]) -> None:
        if "loss" in logs:
            words = f"loss {logs['loss']:.3f}, {logs['tokens_per_second']:,.0f} tokens/s"
        else:
            named = {name.replace("heldout", "held-out").replace("_", " "): value for name, value in logs.items()}
            words = ", ".join(f"{name} {value:.4f}" for name, value in named.items() if name != "epoch")
        if self._console.is_terminal:
            self._bar.update(self._task, description=f"{self._label}: {words}")
        else:
            done, seconds = state.global_step - self._first, time.monotonic() - self._started
            left = time_left(done, state.max_steps - state.global_step, seconds)
            sys.stderr.write(f"{self._label}: step {state.global_step}/{state.max_steps}, {words}{left}\n")

    def close(self) -> None:
        if self._bar.live.is_started:
            self._bar.stop()


class TensorBoard(Reporter):
    """Every number of the log as a TensorBoard scalar in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            from torch.utils.tensorboard import SummaryWriter

            # What was logged at the step of the checkpoint stays, as it does in metrics.jsonl.
            after = state.global_step + 1 if state.global_step else None
            self._writer = SummaryWriter(str(self._folder), purge_step=after)

    def report(self, state: TrainerState, logs: dict[str, float]) -> None:
        for key, value in logs.items():
            self._writer.add_scalar(key, value, state.global_step)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


@contextmanager
def reporters(out: Path, label: str) -> Iterator[list[Reporter]]:
    """What reports on a run into its folder, closed afterwards; TensorBoard only where it is installed."""
    found: list[Reporter] = [Metrics(out / METRICS), Bar(label)]
    if find_spec("tensorboard"):
        found.append(TensorBoard(out / TENSORBOARD))
    elif PartialState().is_main_process:
        sys.stderr.write("No TensorBoard curves, metrics.jsonl has them: pip install 'compactbio[tensorboard]'\n")
    try:
        yield found
    finally:
        for reporter in found:
            reporter.close()
