"""The plots of a comparison: mean score against size and against speed."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from compactbio.cards.plots import INK, POINT, STYLE, calibration_figure, saved
from compactbio.comparison.table import Profile, Run, Table
from compactbio.files import value_digest

_NO_METADATA: dict[str, None] = {"Date": None, "Creator": None, "Type": None, "Format": None}
# In shares of the axes: a label's height, the width of one of its characters, and its distance from its point.
_LINE, _CHARACTER, _GAP = 0.055, 0.0135, 0.025


class Point(NamedTuple):
    """A model: what it costs, and its mean score in percent."""

    model: str
    x: float
    y: float


@dataclass(frozen=True)
class Plot:
    """A drawn plot; `name` is its file's stem, `left_out` are the models without one of the two figures."""

    name: str
    title: str
    figure: Figure
    left_out: tuple[str, ...]

    def svg(self) -> str:
        """As an SVG file with a white background."""
        return self._saved("svg", transparent=False).decode()

    def png(self) -> bytes:
        """As a PNG file of 200 dots per inch."""
        return self._saved("png", transparent=False)

    def inline(self) -> str:
        """As an `<svg>` element for a page: in the page's text colour, transparent, with ids that no other plot has."""
        text = self._saved("svg", transparent=True).decode()
        text = text[text.index("<svg") :].replace(INK, "currentColor")
        return re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{self.name}-", text)

    def _saved(self, kind: str, *, transparent: bool) -> bytes:
        metadata = _NO_METADATA if kind == "svg" else None
        style = {**STYLE, "svg.hashsalt": self.name}
        return saved(self.figure, style, format=kind, dpi=200, transparent=transparent, metadata=metadata)


def draw(table: Table, profiles: Mapping[str, Profile]) -> list[Plot]:
    """The plots for which at least one model has both a score on every data set and the figure on the x axis."""
    size = {model: profile["parameters"] / 1e6 for model, profile in profiles.items()}
    speed = {model: profile["tokens_per_second"] for model, profile in profiles.items()}
    wanted = [
        _plot(table, "score-by-parameters", "Mean score against size", "parameters (millions, log scale)", size),
        _plot(table, "score-by-throughput", "Mean score against speed", "tokens per second (log scale)", speed),
    ]
    return [plot for plot in wanted if plot is not None]


def draw_calibrations(runs: Iterable[Run], data: str) -> Plot | None:
    """The reliability of each model's scores on the devel split of a data set, of its first run; None without any."""
    done = [run for run in runs if (run.data, run.state) == (data, "done")]
    first: dict[str, Mapping[str, Any]] = {}
    for run in done:
        if run.calibration and run.calibration["bins_after"]:
            first.setdefault(run.model, run.calibration)
    if not first:
        return None
    left_out = tuple(dict.fromkeys(run.model for run in done if run.model not in first))
    name = f"calibration-{value_digest(data)[:8]}"
    return Plot(name, f"Scores of the first run of each model on {data}, devel", calibration_figure(first), left_out)


def _plot(table: Table, name: str, title: str, label: str, cost: Mapping[str, float | None]) -> Plot | None:
    found = ((model, cost.get(model), table.overall(model)) for model in table.models)
    points = [Point(model, x, 100 * y) for model, x, y in found if x and y is not None]
    if not points:
        return None
    several = len(table.columns) > 1
    scores = f"mean score over {len(table.columns)} data sets" if several else f"score on {table.columns[0].data}"
    with matplotlib.rc_context(STYLE):
        figure = _drawn(points, label, f"{scores} (%)".replace("$", r"\$"))
    kept = {point.model for point in points}
    return Plot(name, title, figure, tuple(model for model in table.models if model not in kept))


def _drawn(points: Sequence[Point], x_label: str, y_label: str) -> Figure:
    figure = Figure(figsize=(5.6, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlim(min(p.x for p in points) / 1.6, max(p.x for p in points) * 1.6)
    spread = max(p.y for p in points) - min(p.y for p in points) or 1.0
    axes.set_ylim(min(p.y for p in points) - 0.15 * spread, max(p.y for p in points) + 0.2 * spread)
    axes.plot([p.x for p in points], [p.y for p in points], "o", color=POINT, markersize=6)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#8a929c", alpha=0.25, linewidth=0.6)
    _name(axes, points)
    return figure


def _name(axes: Any, points: Sequence[Point]) -> None:
    places = axes.transLimits.transform(axes.transScale.transform([(p.x, p.y) for p in points])).tolist()
    labels = _labels([point.model for point in points], places)
    leader = {"arrowstyle": "-", "color": INK, "linewidth": 0.5, "alpha": 0.6, "shrinkA": 1, "shrinkB": 3}
    for point, place, label in zip(points, places, labels, strict=True):
        edge, x, side = (0.0, label.left, "left") if label.right_of else (1.0, label.right, "right")
        axes.annotate(
            point.model.replace("$", r"\$"),  # which would begin a formula
            place,
            (x, label.y),
            xycoords="axes fraction",
            textcoords="axes fraction",
            ha=side,
            va="center",
            fontsize=8,
            arrowprops={**leader, "relpos": (edge, 0.5)} if label.y != place[1] else None,
        )


class _Label(NamedTuple):
    """A name's place in shares of the axes; `right_of` its point, or left of it."""

    left: float
    right: float
    y: float
    right_of: bool

    def covers(self, other: "_Label") -> bool:
        apart = abs(self.y - other.y) > _LINE - 1e-9
        return not apart and self.left < other.right and other.left < self.right


def _labels(names: Sequence[str], places: Sequence[Sequence[float]]) -> list[_Label]:
    """Each name beside its point, on the side with more room, moved up until it covers no earlier one."""
    placed: dict[int, _Label] = {}
    for i in sorted(range(len(places)), key=lambda i: places[i][1]):
        x, y = places[i]
        width = _CHARACTER * len(names[i])
        right_of = x < 0.55
        left = x + _GAP if right_of else x - _GAP - width
        label = _Label(left, left + width, y, right_of)
        while any(label.covers(other) for other in placed.values()):
            label = label._replace(y=label.y + _LINE / 4)
        placed[i] = label
    return [placed[i] for i in range(len(places))]
