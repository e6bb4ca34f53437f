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
    """Told how far a stage has come (of a `total` of 0 where that is unknown), and of what the user should know."""

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
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._stages: dict[str, TaskID] = {}
        self._said = 0.0
        self._first: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> "Reporter":
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def step(self, stage: str, done: int, total: int) -> None:
        """See Listener."""
        began, before = self._first.setdefault(stage, (time.monotonic(), done))
        rate = (done - before) / max(time.monotonic() - began, 1e-9)
        if self._console.is_terminal:
            if stage not in self._stages:
                self._stages[stage] = self._bar.add_task(stage, rate="")
            self._bar.update(self._stages[stage], completed=done, total=total or None, rate=_rate(rate))
        elif done == total or time.monotonic() - self._said >= _EVERY:
            self._said = time.monotonic()
            left = (total - done) / rate if rate and done < total else 0
            told = f", {left / 60:.0f} min left" if left >= 90 else f", {left:.0f} s left" if left else ""
            of = f" of {total:,}" if total else ""
            self.note(f"{stage}: {done:,}{of}{_rate(rate)}{told}")

    def note(self, sentence: str) -> None:
        """See Listener."""
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def _rate(a_second: float) -> str:
    """Things a second, where there is anything to tell."""
    return f", {a_second:,.0f}/s" if a_second >= 1 else ""
