"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import time
from typing import Protocol

from rich import progress
from rich.console import Console

from compactbio.errors import UserError

_EVERY = 5.0  # seconds between plain lines


class Listener(Protocol):
    """Receives progress and notes."""

    def step(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` units of a stage are finished; a `total` of 0 means that it is unknown."""

    def note(self, sentence: str) -> None:
        """A sentence that the user should read."""


class Silent:
    """Reports nothing."""

    def step(self, stage: str, done: int, total: int) -> None:
        pass

    def note(self, sentence: str) -> None:
        pass


def listening(listener: Listener | None) -> Listener:
    """The listener that a user gave, or a silent one for None. Raises UserError for what cannot listen."""
    if listener is None:
        return Silent()
    if isinstance(listener, type) or not all(callable(getattr(listener, name, None)) for name in ("step", "note")):
        raise UserError(
            f"listener is of type {type(listener).__name__}; it must be an object with the methods "
            "step(stage, done, total) and note(sentence).",
            setting="listener",
        )
    return listener


class Reporter:
    """A progress bar on a terminal, else a plain line every few seconds. To be used as a context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TextColumn("{task.fields[rate]}"),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._stages: dict[str, progress.TaskID] = {}
        self._printed = 0.0
        self._said: tuple[str, int] | None = None
        self._first: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> "Reporter":
        self._bar.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bar.stop()

    def step(self, stage: str, done: int, total: int) -> None:
        begins = stage not in self._first
        began, before = self._first.setdefault(stage, (time.monotonic(), done))
        seconds = time.monotonic() - began
        rate = (done - before) / max(seconds, 1e-9)
        shown = f", {rate:,.0f}/s" if rate >= 1 else ""
        if self._console.is_terminal:
            if stage not in self._stages:
                self._stages[stage] = self._bar.add_task(stage, rate="")
            self._bar.update(self._stages[stage], completed=done, total=total or None, rate=shown)
        elif (stage, done) != self._said and (begins or done == total or time.monotonic() - self._printed >= _EVERY):
            self._printed, self._said = time.monotonic(), (stage, done)
            of = f" of {total:,}" if total else ""
            self.note(f"{stage}: {done:,}{of}{shown}{time_left(done - before, total - done, seconds)}")

    def note(self, sentence: str) -> None:
        self._console.print(sentence, markup=False, highlight=False, soft_wrap=True)


def time_left(done: int, left: int, seconds: float) -> str:
    """ ", 12 s left" or ", 3 min left", from the `seconds` that `done` units took; "" where that is not known."""
    remaining = seconds / done * left if done > 0 and left > 0 else 0.0
    if not remaining:
        return ""
    return f", {remaining / 60:.0f} min left" if remaining >= 90 else f", {remaining:.0f} s left"
