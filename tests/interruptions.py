"""Listeners that note or interrupt a build, and a look at which processes are left."""

import time
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
