"""A comparison on disk: table.json, table.md, table.tex, plots and one HTML page, from templates."""

import platform
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import PackageLoader

from compactbio.cards import environment, percent
from compactbio.comparison.table import Profile, Run, Table, in_words, over_runs
from compactbio.errors import UserError
from compactbio.files import atomic_file, write_json, write_text

TOP = 15
_TYPE = re.compile(r" \[[^\[\]]*\]$")
_SOFTWARE = ("compactbio", "torch", "transformers")


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
_MARKDOWN = {"&": "&amp;", "<": "&lt;", **{character: f"\\{character}" for character in "\\*`|[]~"}}


def escaped_latex(text: str) -> str:
    """Text on one line in which no character is a command of LaTeX."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def escaped_markdown(text: str) -> str:
    """Text on one line in which no character is a mark of Markdown or ends a cell."""
    escaped = "".join(_MARKDOWN.get(character, character) for character in " ".join(text.split()))
    # Within a word an underscore is not a mark.
    return re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", escaped)


def latex(table: Table, title: str) -> str:
    """A `table` environment: two lines per model, scores above and intervals beneath."""
    return _rendered("table.tex.jinja", table=table, title=title)


def markdown(table: Table) -> str:
    """Models as rows, data sets as columns; beneath it what the signs mean, what was scored, tests, and failed runs."""
    return _rendered("table.md.jinja", table=table)


def _rendered(template: str, **values: Any) -> str:
    """A template filled in; in the page every text from a suite, a data set or a model is escaped."""
    # LaTeX has braces of its own: other marks of blocks, variables and comments.
    marks = ("<%", "%>", "<<", ">>", "<#", "#>") if template.startswith("table.tex") else ()
    loader, escaped = PackageLoader("compactbio", "comparison"), template.startswith("report.html")
    templates = environment(*marks, loader=loader, autoescape=escaped)
    templates.filters.update(
        percent=percent,
        signed=signed,
        p_value=p_value,
        latex=escaped_latex,
        markdown=escaped_markdown,
        in_words=in_words,
    )
    templates.globals.update(bounds=bounds, signed_bounds=signed_bounds)
    return templates.get_template(template).render(**values)


class Excerpt(NamedTuple):
    """A part of a text around a mention; `mention` is "" where it is not in the text."""

    before: str
    mention: str
    after: str


@dataclass(frozen=True)
class Error:
    """An error with its count over all runs and one place where it was made."""

    kind: str
    gold: str
    predicted: str
    count: int
    excerpt: Excerpt


@dataclass(frozen=True)
class TypeScores:
    """A model's scores on one entity type or class, means over runs in [0, 1]; `support` is the sum over folds."""

    type: str
    model: str
    support: int
    scores: dict[str, float]


def by_type(runs: Iterable[Run], data: str) -> list[TypeScores]:
    """The scores of every model on every type of a data set, types in alphabetical order, models in the suite's."""
    done = [run for run in runs if run.data == data and run.state == "done"]
    found = []
    for name in sorted({name for run in done for name in run.scored["per_type"]}):
        for model in dict.fromkeys(run.model for run in done):
            scored = [run for run in done if run.model == model and name in run.scored["per_type"]]
            if scored:
                keys = scored[0].scored["per_type"][name]
                means = {key: over_runs(scored, "per_type", name, key) for key in keys}
                support = round(len({run.fold for run in scored}) * means.pop("support"))
                found.append(TypeScores(name, model, support, means))
    return found


def by_kind(runs: Iterable[Run], data: str) -> dict[str, dict[str, int]]:
    """The number of errors of each model on a data set by kind, over all its runs; kinds from the most frequent."""
    total, counts = Counter[str](), dict[str, Counter[str]]()
    for run in runs:
        if (run.data, run.state) == (data, "done"):
            for mistake in run.scored["mistakes"]:
                counts.setdefault(run.model, Counter())[mistake["kind"]] += mistake["count"]
                total[mistake["kind"]] += mistake["count"]
    return {model: {kind: found[kind] for kind, _ in total.most_common()} for model, found in counts.items()}


def frequent(runs: Iterable[Run], model: str, data: str, top: int = TOP) -> list[Error]:
    """The `top` most frequent errors of a model on a data set, all its runs together; ties in alphabetical order."""
    counts, excerpts = Counter[tuple[str, str, str]](), dict[tuple[str, str, str], Excerpt]()
    for run in runs:
        if (run.model, run.data, run.state) == (model, data, "done"):
            for mistake in run.scored["mistakes"]:
                key = (mistake["kind"], mistake["gold"], mistake["predicted"])
                counts[key] += mistake["count"]
                # Without their types: "fever" of "fever [Disease]".
                mentions = [_TYPE.sub("", text) for text in key[1:]] if run.scored["task"] == "ner" else []
                excerpts.setdefault(key, excerpt(mistake["context"], mentions))
    ordered = sorted(counts, key=lambda key: (-counts[key], key))
    return [Error(*key, counts[key], excerpts[key]) for key in ordered[:top]]


def excerpt(context: str, mentions: Sequence[str], width: int = 200) -> Excerpt:
    """Some `width` characters of `context`, around the longest of `mentions` that is in it as whole words."""
    patterns = (rf"(?<!\w){re.escape(text)}(?!\w)" for text in sorted(mentions, key=len, reverse=True) if text)
    place = next((found for pattern in patterns if (found := re.search(pattern, context))), None)
    mention, at = (place[0], place.start()) if place else ("", 0)
    spare = max(0, width - len(mention))
    start = max(0, min(at - spare // 2, len(context) - width))
    end = max(start + width, at + len(mention))
    before, after = context[start:at], context[at + len(mention) : end]
    return Excerpt("…" * (start > 0) + before, mention, after + "…" * (end < len(context)))


def check() -> None:
    """Raise UserError where matplotlib, which draws the plots, is missing."""
    if find_spec("matplotlib") is None:
        raise UserError("The plots of a comparison need matplotlib: pip install 'compactbio[plots]'.")


def write(title: str, table: Table, runs: Sequence[Run], profiles: Mapping[str, Profile], out: str | Path) -> None:
    """Write the report of all `runs`, done or not, whose table is `table`, into a folder.

    `profiles` are size and speed by model; models without one have no point in the plots. Raises UserError where
    matplotlib is missing.
    """
    check()
    from compactbio.comparison import plots

    out, drawn = Path(out), plots.draw(table, profiles)
    names = [column.data for column in table.columns]
    calibrations = {name: plot for name in names if (plot := plots.draw_calibrations(runs, name))}
    versions = {name: version(name) for name in _SOFTWARE} | {"Python": platform.python_version()}
    # A plot of an earlier report, of other runs, would be left.
    shutil.rmtree(out / "plots", ignore_errors=True)
    (out / "plots").mkdir(parents=True)
    types = {name: by_type(runs, name) for name in names}
    kinds = {name: by_kind(runs, name) for name in names}
    errors = {name: {model: frequent(runs, model, name) for model in table.models} for name in names}
    record = {
        "title": title,
        **asdict(table),
        "per_type": {name: list(map(asdict, scores)) for name, scores in types.items()},
        "errors_by_kind": kinds,
        "errors": {
            name: {m: list(map(asdict, found)) for m, found in models.items()} for name, models in errors.items()
        },
        "profiles": dict(profiles),
        "versions": versions,
    }
    write_json(out / "table.json", record)
    write_text(out / "table.md", markdown(table))
    write_text(out / "table.tex", latex(table, title))
    for plot in (*drawn, *calibrations.values()):
        write_text(out / "plots" / f"{plot.name}.svg", plot.svg())
        with atomic_file(out / "plots" / f"{plot.name}.png") as png:
            png.write_bytes(plot.png())
    html = _rendered(
        "report.html.jinja",
        title=title,
        table=table,
        profiles=profiles,
        plots=drawn,
        software=[f"{name} {number}" for name, number in versions.items()],
        types=types,
        calibrations=calibrations,
        kinds=kinds,
        errors={name: {m: found for m, found in models.items() if found} for name, models in errors.items()},
        top=TOP,
    )
    write_text(out / "index.html", html)
