"""Two groups of runs compared: `python -m benchmarks.paired A.json ... --against B.json ...`.

The files are what `compactbio evaluate --json` printed. Runs of a group on one data set (seeds) are averaged, data sets
too; the difference of the groups has its 95 % paired bootstrap interval and p, every draw of test units serving all
runs.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compactbio.errors import UserError
from compactbio.tasks.outcome import STATISTICS, interval, paired, score

Key = tuple[str, str, str]
"""Name, split and SHA-256 of what was scored."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the score of each group on each data set, and the difference of the two over all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, metavar="A.json")
    parser.add_argument("--against", nargs="+", type=Path, required=True, metavar="B.json")
    given = parser.parse_args(arguments)
    try:
        lines = compare(given.files, given.against)
    except UserError as error:
        parser.error(str(error))
    sys.stdout.writelines(f"{line}\n" for line in lines)


def compare(files: Sequence[Path], against: Sequence[Path]) -> list[str]:
    """The lines that `main` prints. Raises UserError where the groups were scored on other data or by other metrics."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in (*files, *against)]
    statistics = {record["statistic"] for record in records}
    if len(statistics) > 1:
        raise UserError(f"Scores of different kinds cannot be averaged: {', '.join(sorted(statistics))}.")
    statistic = STATISTICS[statistics.pop()]
    ours, theirs = _by_data(records[: len(files)]), _by_data(records[len(files) :])
    if ours.keys() != theirs.keys():
        alone = sorted(f"{name}, {split}" for name, split, _ in ours.keys() ^ theirs.keys())
        raise UserError(f"Only one group was scored on {'; '.join(alone)}.")
    lines = []
    for data in ours:
        name, split, digest = data
        for label, units in (("A", ours[data]), ("B", theirs[data])):
            low, high = interval(units, statistic)
            lines.append(
                f"{label} {name}, {split} ({digest[:12]}), runs: {len(units)}: {100 * score(units, statistic):.2f} "
                f"[{100 * low:.2f}, {100 * high:.2f}]"
            )
    found = paired(list(ours.values()), [theirs[data] for data in ours], statistic)
    over = f", mean of {len(ours)} data sets" if len(ours) > 1 else ""
    lines.append(
        f"A - B{over}: {100 * found.difference:+.2f} [{100 * found.low:.2f}, {100 * found.high:.2f}], p = {found.p:.3f}"
    )
    return lines


def _by_data(records: Sequence[dict[str, Any]]) -> dict[Key, NDArray[np.float64]]:
    """The units (runs, n, k) of each data set."""
    groups: dict[Key, list[Any]] = {}
    for record in records:
        data = record["data"]
        groups.setdefault((data["name"], data["split"], data["sha256"]), []).append(record["units"])
    return {key: np.array(units, dtype=np.float64) for key, units in groups.items()}


if __name__ == "__main__":
    main()
