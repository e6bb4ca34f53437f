"""How much of this machine a process may use."""

import os
from collections.abc import Iterator
from pathlib import Path

_PERIOD = 100_000  # microseconds; what a quota is of where nothing else is said


def cores(root: Path = Path("/")) -> int:
    """The processors that this process may use at once: those it is bound to, and no more than the CPU quotas of its
    control groups (versions 1 and 2) let it keep busy, rounded down; at least 1. The system's files stand under `root`.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *map(int, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The processors that each control group around this process allows, where it sets a limit."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if not controllers:
            tops = [mounts]
        elif "cpu" in controllers.split(","):
            tops = [mounts / "cpu", mounts / controllers]
        else:
            continue
        # Within a container the path may be the host's, of which only the last group, or none, is to be seen.
        inner = [part for part in path.split("/") if part not in ("", "..")]
        for top in tops:
            for depth in range(len(inner) + 1):
                yield from _quota(top.joinpath(*inner[:depth]))


def _quota(group: Path) -> Iterator[float]:
    words = _text(group / "cpu.max").split() or [
        *_text(group / "cpu.cfs_quota_us").split(), *_text(group / "cpu.cfs_period_us").split()
    ]  # fmt: skip
    try:
        quota, period = float(words[0]), float(words[1]) if len(words) > 1 else _PERIOD
    except (IndexError, ValueError):
        return  # no such file, or "max"
    if quota > 0 and period > 0:
        yield quota / period


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
