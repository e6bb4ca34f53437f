"""Writes a comparison: table.json, table.md, table.tex, plots and index.html."""

import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from compactbio.compare.cells import Cell, Profile
from compactbio.compare.details import by_type, frequent
from compactbio.compare.latex import latex
from compactbio.compare.markdown import markdown
from compactbio.compare.table import Table
from compactbio.errors import UserError
from compactbio.records import atomic

_SOFTWARE = ("compactbio", "torch", "transformers")


def check() -> None:
    """Raise UserError where matplotlib, which draws the plots, is missing; to be called before the first run."""
    if find_spec("matplotlib") is None:
        raise UserError("The plots of a comparison need matplotlib: pip install 'compactbio[plots]'.")


def write(title: str, table: Table, cells: Sequence[Cell], profiles: Mapping[str, Profile], out: str | Path) -> None:
    """Write the report of `cells`, of which `table` is made, into the folder `out`.

    `profiles` hold what is known of the models' size and speed; models without one have no point in the plots.
    Raises UserError where matplotlib is missing.
    """
    check()
    out = Path(out)
    from compactbio.compare import page, plots

    drawn = plots.draw(table, profiles)
    versions = {name: version(name) for name in _SOFTWARE} | {"Python": platform.python_version()}
    # A plot of fewer cells, from before, would be left.
    shutil.rmtree(out / "plots", ignore_errors=True)
    (out / "plots").mkdir(parents=True)
    names = [column.data for column in table.columns]
    behind = {
        "per_type": {name: [asdict(one) for one in by_type(cells, name)] for name in names},
        "errors": {
            name: {model: [asdict(one) for one in frequent(cells, model, name)] for model in table.models}
            for name in names
        },
    }
    about = {"profiles": dict(profiles), "versions": versions}
    atomic.write_json(out / "table.json", {"title": title, **asdict(table), **behind, **about})
    atomic.write_text(out / "table.md", markdown(table))
    atomic.write_text(out / "table.tex", latex(table, title))
    for plot in drawn:
        atomic.write_text(out / "plots" / f"{plot.name}.svg", plot.svg())
        with atomic.file(out / "plots" / f"{plot.name}.png") as partial:
            partial.write_bytes(plot.png())
    software = [f"{name} {number}" for name, number in versions.items()]
    atomic.write_text(out / "index.html", page.render(title, table, cells, profiles, drawn, software))
