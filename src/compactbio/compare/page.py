"""The page of a comparison: one HTML file that needs nothing from outside, for the screen and for paper."""

from collections.abc import Mapping, Sequence
from importlib import resources

from jinja2 import Environment, StrictUndefined

from compactbio.compare import numbers
from compactbio.compare.cells import Cell, Profile
from compactbio.compare.details import TOP, by_type, frequent
from compactbio.compare.plots import Plot
from compactbio.compare.table import Table


def render(
    title: str,
    table: Table,
    cells: Sequence[Cell],
    profiles: Mapping[str, Profile],
    plots: Sequence[Plot],
    software: Sequence[str],
) -> str:
    """The page as HTML; every text from a suite, a data set or a model is escaped."""
    here = resources.files("compactbio.compare")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(percent=numbers.percent, signed=numbers.signed, p_value=numbers.p_value)
    return environment.from_string((here / "report.html").read_text(encoding="utf-8")).render(
        title=title,
        css=(here / "report.css").read_text(encoding="utf-8"),
        table=table,
        profiles=profiles,
        plots=plots,
        software=software,
        bounds=numbers.bounds,
        signed_bounds=numbers.signed_bounds,
        tested=[row for row in table.rows if row.test is not None],
        types=[(column.data, by_type(cells, column.data)) for column in table.columns],
        errors=[(column.data, _errors(table, cells, column.data)) for column in table.columns],
        top=TOP,
        protocols=list(dict.fromkeys(column.protocol for column in table.columns if column.protocol)),
        failures=[(row.data, row.model, reason) for row in table.rows for reason in row.failures],
        runs=sum(row.runs for row in table.rows),
        failed=sum(len(row.failures) for row in table.rows),
        missing=sum(row.missing for row in table.rows),
    )


def _errors(table: Table, cells: Sequence[Cell], data: str) -> list[tuple[str, object]]:
    found = [(model, frequent(cells, model, data)) for model in table.models]
    return [(model, errors) for model, errors in found if errors]
