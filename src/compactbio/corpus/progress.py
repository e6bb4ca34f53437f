"""What a build says of itself while it works."""

import time
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_EVERY = 5.0  # seconds between plain lines


class Listener(Protocol):
    """Told how far a stage has come, and of what the user should know."""

    def step(self, stage: str, done: int, total: int) -> None: ...

    def note(self, sentence: str) -> None: ...


class Silent:
    """Says nothing."""

    def step(self, stage: str, done: int, total: int) -> None:
        pass

    def note(self, sentence: str) -> None:
        pass


class Reporter:
    """A progress bar on a terminal, else a plain line every few seconds. Use it as a context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._stages: dict[str, TaskID] = {}
        self._said = 0.0

    def __enter__(self) -> "Reporter":
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def step(self, stage: str, done: int, total: int) -> None:
        if self._console.is_terminal:
            if stage not in self._stages:
                self._stages[stage] = self._bar.add_task(stage)
            self._bar.update(self._stages[stage], completed=done, total=total)
        elif done == total or time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            self.note(f"{stage}: {done} of {total}")

    def note(self, sentence: str) -> None:
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)
