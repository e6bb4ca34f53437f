"""Ways to interrupt what runs at a known place, and a look at which processes are left."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path


class Notes:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def step(self, stage: str, done: int, total: int) -> None:
        pass

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


class Interrupt(Notes):
    """A listener that presses Ctrl-C when so many sources are done."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def step(self, stage: str, done: int, total: int) -> None:
        if stage == "reading citations" and done >= self.after:
            raise KeyboardInterrupt


def wait_for_end(pids: list[str], seconds: float = 20.0) -> None:
    """Wait until the processes have ended; a killed run must leave none behind."""
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(0.05)


def alive(pid: str) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Stopper(StringIO):
    """A stderr that sends SIGTERM to this process when the run says that it has come to a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._words = f"step {step}/"

    def write(self, text: str) -> int:
        if self._words in text:
            signal.raise_signal(signal.SIGTERM)
        return super().write(text)


@contextmanager
def stopping_at(step: int) -> Iterator[None]:
    """Within it a run is stopped as by `kill` once it has logged a step; it saves a checkpoint after the next."""
    with redirect_stderr(Stopper(step)):
        yield
