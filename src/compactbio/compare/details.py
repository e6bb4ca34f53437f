"""What lies behind a table's scores: scores by type, and the errors that were made most often."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from compactbio.compare.cells import Cell
from compactbio.compare.table import over_runs

TOP = 15
_WIDTH = 200


class Excerpt(NamedTuple):
    """A piece of a text around a mention; `mention` is "" where the text does not hold it."""

    before: str
    mention: str
    after: str


@dataclass(frozen=True)
class Error:
    """An error as often as it was made over all runs, with one place where it was."""

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


def by_type(cells: Iterable[Cell], data: str) -> list[TypeScores]:
    """The scores of every model on every type of a data set, types in alphabetical order, models in the suite's."""
    done = [cell for cell in cells if cell.data == data and cell.state == "done"]
    types = sorted({name for cell in done for name in cell.scored["per_type"]})
    models = list(dict.fromkeys(cell.model for cell in done))
    return [
        _type_scores(name, runs)
        for name in types
        for model in models
        if (runs := [cell for cell in done if cell.model == model and name in cell.scored["per_type"]])
    ]


def frequent(cells: Iterable[Cell], model: str, data: str, top: int = TOP) -> list[Error]:
    """The `top` most frequent errors of a model on a data set, all its runs together; ties in alphabetical order."""
    counts: dict[tuple[str, str, str], int] = {}
    excerpts: dict[tuple[str, str, str], Excerpt] = {}
    for cell in cells:
        if (cell.model, cell.data, cell.state) != (model, data, "done"):
            continue
        for mistake in cell.scored["mistakes"]:
            key = (mistake["kind"], mistake["gold"], mistake["predicted"])
            counts[key] = counts.get(key, 0) + mistake["count"]
            mentions = [_bare(text) for text in key[1:]] if cell.scored["task"] == "ner" else []
            excerpts.setdefault(key, excerpt(mistake["context"], mentions))
    ordered = sorted(counts, key=lambda key: (-counts[key], key))
    return [Error(*key, counts[key], excerpts[key]) for key in ordered[:top]]


def excerpt(context: str, mentions: Sequence[str], width: int = _WIDTH) -> Excerpt:
    """Some `width` characters of `context`; amid it the longest of `mentions` that is there as whole words."""
    patterns = (rf"(?<!\w){re.escape(text)}(?!\w)" for text in sorted(mentions, key=len, reverse=True) if text)
    place = next((found for pattern in patterns if (found := re.search(pattern, context))), None)
    mention, at = (place[0], place.start()) if place else ("", 0)
    spare = max(0, width - len(mention))
    start = max(0, min(at - spare // 2, len(context) - width))
    end = max(start + width, at + len(mention))
    before, after = context[start:at], context[at + len(mention) : end]
    return Excerpt("…" * (start > 0) + before, mention, after + "…" * (end < len(context)))


def _bare(mention: str) -> str:
    """A mention's text without its type: "fever [Disease]" is found in a text as "fever"."""
    return re.sub(r" \[[^\[\]]*\]$", "", mention)


def _type_scores(name: str, runs: Sequence[Cell]) -> TypeScores:
    names = [key for key in runs[0].scored["per_type"][name] if key != "support"]
    folds = len({cell.fold for cell in runs})
    scores = {key: _mean(runs, name, key) for key in names}
    return TypeScores(name, runs[0].model, round(folds * _mean(runs, name, "support")), scores)


def _mean(runs: Sequence[Cell], name: str, key: str) -> float:
    return over_runs(runs, lambda run: float(run["per_type"][name][key]))
