"""Ways to interrupt what runs at a known place, and a look at which processes are left."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from pathlib import Path

import forked


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


def wait_for_end(pids: list[str]) -> None:
    """Wait until the processes have ended; a killed run must leave none behind, or pytest's own limit ends the test."""
    while any(alive(pid) for pid in pids):
        time.sleep(0.05)


def alive(pid: str) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


class Stopper(StringIO):
    """A stderr that sends a signal to this process when the run says, for the nth time, that it has come to a step."""

    def __init__(self, step: int, number: int, nth: int) -> None:
        super().__init__()
        self._words, self._number, self._left = f"step {step}/", number, nth

    def write(self, text: str) -> int:
        if self._words in text:
            self._left -= 1
            if self._left == 0:
                signal.raise_signal(self._number)
        return super().write(text)


@contextmanager
def stopping_at(step: int, number: int = signal.SIGTERM, nth: int = 1) -> Iterator[Stopper]:
    """Within it a run is stopped as by `kill` once it has logged a step; it saves a checkpoint after the next."""
    stopper = Stopper(step, number, nth)
    with redirect_stderr(stopper):
        yield stopper


_KILLED_AT_STEP = """
import signal, sys
from compactbio.cli import main
from interruptions import stopping_at

step, *sys.argv[1:] = sys.argv[1:]
with stopping_at(int(step), signal.SIGKILL):
    main()
"""

_KILLED_AT_FILE = """
import signal, sys
from contextlib import contextmanager
from compactbio.cli import main
from compactbio.training import array_files

number, *sys.argv[1:] = sys.argv[1:]
left, atomic_file = [int(number)], array_files.atomic_file

@contextmanager
def dying(path):
    with atomic_file(path) as partial:
        yield partial
        left[0] -= 1
        if not left[0]:
            signal.raise_signal(signal.SIGKILL)

array_files.atomic_file = dying
main()
"""


def killed_at(step: int, arguments: list[str]) -> None:
    """Run the command line in a process of its own, which dies by SIGKILL as it comes to a step of its run."""
    _killed(_KILLED_AT_STEP, step, arguments)


def killed_at_file(number: int, arguments: list[str]) -> None:
    """The same as it has written, but not put in place, the nth file of what teachers say."""
    _killed(_KILLED_AT_FILE, number, arguments)


def _killed(code: str, number: int, arguments: list[str]) -> None:
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    done = forked.run(
        [sys.executable, "-c", code, str(number), *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
