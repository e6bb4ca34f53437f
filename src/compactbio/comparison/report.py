"""A comparison on disk: table.json, table.md, table.tex, plots and one HTML page."""

import platform
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from compactbio.comparison.rendering import latex, markdown, page
from compactbio.comparison.table import Profile, Run, Table, over_runs
from compactbio.errors import UserError
from compactbio.files import atomic_file, write_json, write_text

TOP = 15
_SOFTWARE = ("compactbio", "torch", "transformers")
_WIDTH = 200


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
    types = sorted({name for run in done for name in run.scored["per_type"]})
    models = list(dict.fromkeys(run.model for run in done))
    return [
        _type_scores(name, scored)
        for name in types
        for model in models
        if (scored := [run for run in done if run.model == model and name in run.scored["per_type"]])
    ]


def frequent(runs: Iterable[Run], model: str, data: str, top: int = TOP) -> list[Error]:
    """The `top` most frequent errors of a model on a data set, all its runs together; ties in alphabetical order."""
    counts: dict[tuple[str, str, str], int] = {}
    excerpts: dict[tuple[str, str, str], Excerpt] = {}
    for run in runs:
        if (run.model, run.data, run.state) != (model, data, "done"):
            continue
        for mistake in run.scored["mistakes"]:
            key = (mistake["kind"], mistake["gold"], mistake["predicted"])
            counts[key] = counts.get(key, 0) + mistake["count"]
            mentions = [_bare(text) for text in key[1:]] if run.scored["task"] == "ner" else []
            excerpts.setdefault(key, excerpt(mistake["context"], mentions))
    ordered = sorted(counts, key=lambda key: (-counts[key], key))
    return [Error(*key, counts[key], excerpts[key]) for key in ordered[:top]]


def excerpt(context: str, mentions: Sequence[str], width: int = _WIDTH) -> Excerpt:
    """Some `width` characters of `context`, around the longest of `mentions` that is in it as whole words."""
    patterns = (rf"(?<!\w){re.escape(text)}(?!\w)" for text in sorted(mentions, key=len, reverse=True) if text)
    place = next((found for pattern in patterns if (found := re.search(pattern, context))), None)
    mention, at = (place[0], place.start()) if place else ("", 0)
    spare = max(0, width - len(mention))
    start = max(0, min(at - spare // 2, len(context) - width))
    end = max(start + width, at + len(mention))
    before, after = context[start:at], context[at + len(mention) : end]
    return Excerpt("…" * (start > 0) + before, mention, after + "…" * (end < len(context)))


def _bare(mention: str) -> str:
    """A mention's text without its type: "fever" of "fever [Disease]"."""
    return re.sub(r" \[[^\[\]]*\]$", "", mention)


def _type_scores(name: str, runs: Sequence[Run]) -> TypeScores:
    names = [key for key in runs[0].scored["per_type"][name] if key != "support"]
    folds = len({run.fold for run in runs})
    scores = {key: _mean(runs, name, key) for key in names}
    return TypeScores(name, runs[0].model, round(folds * _mean(runs, name, "support")), scores)


def _mean(runs: Sequence[Run], name: str, key: str) -> float:
    return over_runs(runs, lambda record: float(record["per_type"][name][key]))


def check() -> None:
    """Raise UserError where matplotlib, which draws the plots, is missing."""
    if find_spec("matplotlib") is None:
        raise UserError("The plots of a comparison need matplotlib: pip install 'compactbio[plots]'.")


def write(title: str, table: Table, runs: Sequence[Run], profiles: Mapping[str, Profile], out: str | Path) -> None:
    """Write the report of a comparison.

    Args:
        title: of the page and the tables.
        table: what `table.build` made of `runs`.
        runs: all runs, done or not.
        profiles: size and speed by model; models without one have no point in the plots.
        out: the folder to write.

    Raises UserError where matplotlib is missing.
    """
    check()
    out = Path(out)
    from compactbio.comparison import plots

    drawn = plots.draw(table, profiles)
    versions = {name: version(name) for name in _SOFTWARE} | {"Python": platform.python_version()}
    # A plot of an earlier report, of other runs, would be left.
    shutil.rmtree(out / "plots", ignore_errors=True)
    (out / "plots").mkdir(parents=True)
    names = [column.data for column in table.columns]
    types = {name: by_type(runs, name) for name in names}
    errors = {name: {model: frequent(runs, model, name) for model in table.models} for name in names}
    record = {
        "title": title,
        **asdict(table),
        "per_type": {name: list(map(asdict, scores)) for name, scores in types.items()},
        "errors": {
            name: {m: list(map(asdict, found)) for m, found in models.items()} for name, models in errors.items()
        },
        "profiles": dict(profiles),
        "versions": versions,
    }
    write_json(out / "table.json", record)
    write_text(out / "table.md", markdown(table))
    write_text(out / "table.tex", latex(table, title))
    for plot in drawn:
        write_text(out / "plots" / f"{plot.name}.svg", plot.svg())
        with atomic_file(out / "plots" / f"{plot.name}.png") as partial:
            partial.write_bytes(plot.png())
    html = page(
        title=title,
        table=table,
        profiles=profiles,
        plots=drawn,
        software=[f"{name} {number}" for name, number in versions.items()],
        types=types,
        errors={name: {m: found for m, found in models.items() if found} for name, models in errors.items()},
        top=TOP,
    )
    write_text(out / "index.html", html)
