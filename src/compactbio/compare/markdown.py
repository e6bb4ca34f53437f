"""The table of a comparison as Markdown, for a terminal, a README or a model card."""

from compactbio.compare.numbers import bounds, percent
from compactbio.compare.table import Column, Row, Table
from compactbio.records import card

_DAGGER = "†"


def markdown(table: Table) -> str:
    """Models as rows, data sets as columns, and beneath it what the signs mean and which runs failed."""
    header = ["model", *(_heading(column) for column in table.columns)]
    rows = [
        [_escaped(model), *(_cell(table, table.row(model, column.data)) for column in table.columns)]
        for model in table.models
    ]
    return "\n\n".join([card.table(header, rows), _legend(table), *_failures(table)]) + "\n"


def _heading(column: Column) -> str:
    metric = f" ({column.metric.upper()})" if column.metric else ""
    return _escaped(column.data) + metric


def _cell(table: Table, row: Row) -> str:
    if row.mean is None or row.low is None or row.high is None:
        return row.state
    score = percent(row.mean)
    text = f"**{score}**" if row.mean == table.best(row.data) else score
    text += "" if row.deviation is None else f" ± {percent(row.deviation)}"
    text += _DAGGER if row.test is not None and row.test.significant else ""
    text += f" {bounds(row.low, row.high)}"
    return text if row.state == "done" else f"{text} ({row.runs} of {row.planned} runs)"


def _legend(table: Table) -> str:
    return (
        "Scores in percent, ± standard deviation over seeds, [95 % bootstrap interval over test units]; the best in "
        f"bold; {_DAGGER}: differs from {_escaped(table.baseline)} (paired bootstrap, Holm-adjusted p < 0.05)."
    )


def _failures(table: Table) -> list[str]:
    lines = [f"- {row.model} on {row.data}, {reason}" for row in table.rows for reason in row.failures]
    return ["Failed:\n\n" + "\n".join(_escaped(line) for line in lines)] if lines else []


def _escaped(text: str) -> str:
    for sign, written in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), ("*", "\\*"), ("`", "\\`")):
        text = text.replace(sign, written)
    return " ".join(text.split())
