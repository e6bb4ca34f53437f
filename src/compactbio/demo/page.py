"""The demo's page: table, curves, plots and annotated texts as one HTML file that needs nothing from outside."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from matplotlib.figure import Figure

from compactbio.cards import environment
from compactbio.comparison import plots
from compactbio.comparison.table import Profile
from compactbio.demo.data import MAX_LENGTH
from compactbio.demo.run import TEACHER, Result, Text
from compactbio.documents import Span
from compactbio.files import write_text


def header(result: Result) -> tuple[str, ...]:
    """The heads of the columns of `cells`."""
    scores = (f"{column.data} {column.metric.upper()}" for column in result.scores.columns)
    return ("model", "start and training", *scores, "mean", "kept", "M params", "MB", "tokens/s")


def cells(result: Result) -> list[tuple[str, ...]]:
    """The rows of the table as text, scores in percent."""
    return [
        (
            row.model,
            row.how,
            *(f"{100 * score:.2f}" for score in row.scores.values()),
            f"{100 * row.mean:.2f}",
            f"{row.share:.1%}",
            f"{row.parameters / 1e6:.2f}",
            f"{row.megabytes:.1f}",
            f"{row.tokens_per_second:,.0f}",
        )
        for row in result.rows
    ]


def exported(result: Result) -> str:
    """What was exported, and what it cost."""
    made, test = result.exported, result.exported["test"]
    before, after = (made[key]["bytes"] / 1e6 for key in ("original", "exported"))
    return (
        f"{made['model']} as {made['exported']['runtime']}{', ' if made['way'] else ''}{made['way']}: "
        f"F1 {100 * test['exported']:.2f} on test, {100 * test['original']:.2f} before; "
        f"{after:.2f} MB, {before:.2f} before."
        f"{' Int8 was refused: ' if made['refused'] else ''}{made['refused']}"
    )


def shown(text: Text) -> str:
    """The text with what was found in brackets, for a terminal."""
    return "".join(f"[{piece} {kind}]" if kind else piece for piece, kind in segments(text.text, text.found))


def segments(text: str, spans: Sequence[Span]) -> list[tuple[str, str]]:
    """The text in segments with the type of the mention that each is, "" for what is none."""
    found, end = [], 0
    for span in spans:
        found += [(text[end : span.start], ""), (text[span.start : span.end], span.type)]
        end = span.end
    return [*found, (text[end:], "")]


def write(result: Result, path: Path) -> None:
    """Write the page; everything is in the one file."""
    template = (resources.files("compactbio.demo") / "page.html").read_text(encoding="utf-8")
    profiles: dict[str, Profile] = {
        row.model: {
            "parameters": row.parameters,
            "tokens_per_second": row.tokens_per_second,
            "latency_ms": None,
            "measured": result.machine,
        }
        for row in result.rows
    }
    page = (
        environment(autoescape=True, keep_trailing_newline=False)
        .from_string(template)
        .render(
            result=result,
            header=header(result),
            cells=cells(result),
            plots=[_curves(result), *plots.draw(result.scores, profiles)],
            exported=exported(result),
            segments=segments,
            max_length=MAX_LENGTH,
        )
    )
    write_text(path, page)


def _curves(result: Result) -> plots.Plot:
    figure = Figure(figsize=(11.6, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for i, (name, points) in enumerate(result.curves.items()):
        axes, style = (left, "o-") if name == TEACHER else (right, "--" if name.endswith("-alone") else "-")
        axes.plot(*zip(*points, strict=True), style, label=name, color=f"C{i}", markersize=4)
    left.set_ylabel("held-out loss (nats)")
    for axes, title in ((left, "teacher"), (right, "students; dashed: MLM alone")):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("step")
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False, fontsize=8)
    return plots.Plot("curves", "Held-out loss while training", figure, ())
