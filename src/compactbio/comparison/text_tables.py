"""The table of a comparison as Markdown and as LaTeX."""

from compactbio import cards
from compactbio.comparison.table import Column, Row, Table


def percent(score: float) -> str:
    """A score in [0, 1], or a share, as "83.42"."""
    return f"{100 * score:.2f}"


def signed(difference: float) -> str:
    """A difference in points of a percentage, "+0.31", with a true minus sign where it is below 0."""
    # Adding 0 makes a rounded -0 positive.
    return f"{round(100 * difference, 2) + 0.0:+.2f}".replace("-", "\N{MINUS SIGN}")


def bounds(low: float, high: float) -> str:
    """An interval of scores, "[82.10, 84.55]"."""
    return f"[{percent(low)}, {percent(high)}]"


def signed_bounds(low: float, high: float) -> str:
    """An interval of differences, "[+0.40, +0.95]"."""
    return f"[{signed(low)}, {signed(high)}]"


def p_value(p: float) -> str:
    """A p-value, "0.012"; below a thousandth, "<0.001"."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


_SIGNS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}


def latex(table: Table, title: str) -> str:
    """A `table` environment: two lines a model, scores above and intervals beneath; all names escaped."""
    columns = table.columns
    heads = " & ".join(["Model", *(_heading(column) for column in columns)])
    body = "\n".join(_lines(table, model) for model in table.models)
    return f"""% needs \\usepackage{{booktabs}}
\\begin{{table}}
\\centering
\\footnotesize
\\setlength{{\\tabcolsep}}{{4pt}}
\\caption{{{_caption(table, title)}}}
\\begin{{tabular}}{{l{"r" * len(columns)}}}
\\toprule
{heads} \\\\
\\midrule
{body}
\\bottomrule
\\end{{tabular}}
\\end{{table}}
"""


def escaped(text: str) -> str:
    """Text in which no sign is a command of LaTeX's, on one line."""
    return "".join(_SIGNS.get(sign, sign) for sign in " ".join(text.split()))


def _heading(column: Column) -> str:
    metric = f" ({column.metric.upper()})" if column.metric else ""
    return escaped(column.data) + metric


def _lines(table: Table, model: str) -> str:
    rows = [table.row(model, column.data) for column in table.columns]
    scores = " & ".join([escaped(model), *(_score(table, row) for row in rows)])
    intervals = " & ".join(["", *(_interval(row) for row in rows)])
    return f"{scores} \\\\\n{intervals} \\\\"


def _score(table: Table, row: Row) -> str:
    if row.mean is None:
        return f"\\emph{{{row.state}}}"
    score = percent(row.mean)
    text = f"\\textbf{{{score}}}" if row.mean == table.best(row.data) else score
    text += "" if row.deviation is None else f"{{\\scriptsize\\,$\\pm$\\,{percent(row.deviation)}}}"
    return text + ("$^{\\dagger}$" if row.test is not None and row.test.significant else "")


def _interval(row: Row) -> str:
    if row.low is None or row.high is None:
        return ""
    runs = "" if row.state == "done" else f", {row.runs} of {row.planned} runs"
    return f"{{\\scriptsize {bounds(row.low, row.high)}{runs}}}"


def _caption(table: Table, title: str) -> str:
    scored = "; ".join(_scored(column) for column in table.columns if column.task)
    failed = sum(len(row.failures) for row in table.rows)
    return (
        f"{escaped(title)}. Scores in percent, $\\pm$ standard deviation over seeds; beneath, the 95\\,\\% bootstrap "
        f"interval over test units; the best in bold. $\\dagger$: differs from {escaped(table.baseline)} (paired "
        f"bootstrap, Holm-adjusted $p < 0.05$). {scored}." + (f" {failed} runs failed." if failed else "")
    )


def _scored(column: Column) -> str:
    seeds = ", ".join(map(str, column.seeds))
    # Data without a negative class are another task than the one that others report.
    notes = "".join(f", {note.rstrip('.')}" for note in column.notes if "negative class" in note)
    return escaped(
        f"{column.data}: {column.protocol} protocol, {column.units} {column.unit}s, SHA-256 {column.sha256[:12]}, "
        f"seeds {seeds}{notes}"
    )


_DAGGER = "†"


def markdown(table: Table) -> str:
    """Models as rows, data sets as columns; beneath it what the signs mean, what was scored, tests, and failed runs."""
    header = ["model", *(_heading_of_markdown(column) for column in table.columns)]
    rows = [
        [_escaped(model), *(_cell(table, table.row(model, column.data)) for column in table.columns)]
        for model in table.models
    ]
    parts = [
        cards.table(header, rows),
        _legend(table),
        _scored_of_markdown(table),
        *_other_scores(table),
        *_tests(table),
    ]
    return "\n\n".join([*parts, *_failures(table)]) + "\n"


def _heading_of_markdown(column: Column) -> str:
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


def _scored_of_markdown(table: Table) -> str:
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
    return cards.table(header, rows)


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
    return ["All scores, means over the runs:", cards.table(("data", "model", "scores"), rows)] if rows else []


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
        found += [f"Against {_escaped(table.baseline)}, paired bootstrap:", cards.table(header, tested)]
    if shares:
        told = f"Share of the score of {_escaped(table.teacher or '')}, in percent:"
        found += [told, cards.table(("data", "model", "share"), shares)]
    return found


def _failures(table: Table) -> list[str]:
    lines = [f"- {row.model} on {row.data}, {reason}" for row in table.rows for reason in row.failures]
    return ["Failed:\n\n" + "\n".join(_escaped(line) for line in lines)] if lines else []


def _escaped(text: str) -> str:
    for sign, written in (("\\", "\\\\"), ("&", "&amp;"), ("<", "&lt;"), ("*", "\\*"), ("`", "\\`")):
        text = text.replace(sign, written)
    return " ".join(text.split())
