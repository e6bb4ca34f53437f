"""The table of a comparison as LaTeX, for `\\usepackage{booktabs}`."""

from compactbio.compare.numbers import bounds, percent
from compactbio.compare.table import Column, Row, Table

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
