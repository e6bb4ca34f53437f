"""The table of a comparison as Markdown, for a terminal, a README or a model card."""

from compactbio.compare.numbers import bounds, p_value, percent, signed, signed_bounds
from compactbio.compare.table import Column, Row, Table
from compactbio.records import card

_DAGGER = "†"


def markdown(table: Table) -> str:
    """Models as rows, data sets as columns; beneath it what the signs mean, what was scored, tests, and failed runs."""
    header = ["model", *(_heading(column) for column in table.columns)]
    rows = [
        [_escaped(model), *(_cell(table, table.row(model, column.data)) for column in table.columns)]
        for model in table.models
    ]
    parts = [card.table(header, rows), _legend(table), _scored(table), *_other_scores(table), *_tests(table)]
    return "\n\n".join([*parts, *_failures(table)]) + "\n"


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


def _scored(table: Table) -> str:
    header = ("data", "metric", "protocol", "split", "test units", "SHA-256", "seeds", "trained on", "notes")
    rows = [
        (
            _escaped(column.data),
            column.metric.upper(),
            column.protocol,
            column.split,
            f"{column.units:,} {column.unit}s" + (f", {column.folds} folds" if column.folds else ""),
            f"`{column.sha256[:12]}`",
            ", ".join(map(str, column.seeds)),
            column.train_on,
            _escaped(" ".join(column.notes)),
        )
        for column in table.columns
        if column.task
    ]
    return card.table(header, rows)


def _other_scores(table: Table) -> list[str]:
    """The scores beside the main one."""
    rows = [
        (
            _escaped(row.data),
            _escaped(row.model),
            ", ".join(f"{name.replace('_', ' ')} {percent(value)}" for name, value in row.scores.items()),
        )
        for row in table.rows
        if row.scores
    ]
    return ["All scores, means over the runs:", card.table(("data", "model", "scores"), rows)] if rows else []


def _tests(table: Table) -> list[str]:
    """Tests against the baseline, and shares of the teacher's score, where there are any."""
    tested = [
        (
            _escaped(row.data),
            _escaped(row.model),
            signed(row.test.difference),
            signed_bounds(row.test.low, row.test.high),
            p_value(row.test.p),
            p_value(row.test.adjusted),
        )
        for row in table.rows
        if row.test is not None
    ]
    shares = [
        (_escaped(row.data), _escaped(row.model), percent(row.share))
        for row in table.rows
        if row.share is not None and row.model != table.teacher
    ]
    found = []
    if tested:
        header = ("data", "model", "points", "95 % interval", "p", "p, Holm")
        found += [f"Against {_escaped(table.baseline)}, paired bootstrap:", card.table(header, tested)]
    if shares:
        told = f"Share of the score of {_escaped(table.teacher or '')}, in percent:"
        found += [told, card.table(("data", "model", "share"), shares)]
    return found


def _failures(table: Table) -> list[str]:
    lines = [f"- {row.model} on {row.data}, {reason}" for row in table.rows for reason in row.failures]
    return ["Failed:\n\n" + "\n".join(_escaped(line) for line in lines)] if lines else []


def _escaped(text: str) -> str:
    for sign, written in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), ("*", "\\*"), ("`", "\\`")):
        text = text.replace(sign, written)
    return " ".join(text.split())
