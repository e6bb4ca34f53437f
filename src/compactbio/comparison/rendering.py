"""The templates of a comparison (page, Markdown, LaTeX) and the figures in them."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from compactbio.cards import percent
from compactbio.comparison.table import Table


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


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
_MARKDOWN = {"\\": "\\\\", "&": "&amp;", "<": "&lt;", "*": "\\*", "`": "\\`", "|": "\\|"}


def escaped_latex(text: str) -> str:
    """Text on one line in which no character is a command of LaTeX."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def escaped_markdown(text: str) -> str:
    """Text on one line in which no character is a mark of Markdown or ends a cell."""
    return "".join(_MARKDOWN.get(character, character) for character in " ".join(text.split()))


def latex(table: Table, title: str) -> str:
    """A `table` environment: two lines per model, scores above and intervals beneath."""
    return _rendered("table.tex.jinja", table=table, title=title)


def markdown(table: Table) -> str:
    """Models as rows, data sets as columns; beneath it what the signs mean, what was scored, tests, and failed runs."""
    return _rendered("table.md.jinja", table=table)


def page(**values: Any) -> str:
    """The HTML page; every text from a suite, a data set or a model is escaped."""
    return _rendered("report.html.jinja", **values)


def _rendered(template: str, **values: Any) -> str:
    # LaTeX has braces of its own.
    brackets: dict[str, Any] = {
        "block_start_string": "<%",
        "block_end_string": "%>",
        "variable_start_string": "<<",
        "variable_end_string": ">>",
        "comment_start_string": "<#",
        "comment_end_string": "#>",
    }
    environment = Environment(
        loader=PackageLoader("compactbio", "comparison"),
        autoescape=template.startswith("report.html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **(brackets if template.startswith("table.tex") else {}),
    )
    environment.filters.update(
        percent=percent, signed=signed, p_value=p_value, latex=escaped_latex, markdown=escaped_markdown
    )
    environment.globals.update(bounds=bounds, signed_bounds=signed_bounds)
    return environment.get_template(template).render(**values)
