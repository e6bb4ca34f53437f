"""The picture of a card: how often findings are right by their score, and what a lowest score keeps of each type."""

import io
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#1b1f24"
POINT = "#3b7dd8"
STYLE = {
    "svg.fonttype": "path",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}
# Colours of lines, also for colour-blind readers (Okabe and Ito 2008).
_LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", INK)
_STYLES = ("-", "--", "-.", ":")
_MOST_TYPES = 12


def available() -> bool:
    """Whether matplotlib, which draws, is installed."""
    return find_spec("matplotlib") is not None


def calibration_figure(calibrations: Mapping[str, Mapping[str, Any]]) -> "Figure":
    """A row per calibration: the reliability diagram, and precision against recall of each type.

    Args:
        calibrations: by runtime, or by model, the values of a `tasks.calibration.Calibration`, with bins and curves.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 3.7 * len(calibrations)), layout="constrained")
        axes = figure.subplots(len(calibrations), 2, squeeze=False)
        for row, (name, calibration) in zip(axes, calibrations.items(), strict=True):
            _reliability(row[0], calibration)
            _precision_and_recall(row[1], calibration["types"])
            where = f"{_short(calibration['data']['name'], 60)}, {calibration['data']['split']}"
            row[0].set_title(f"Reliability on\n{where}", loc="left", fontsize=8.5)
            row[1].set_title(f"Precision against recall\n{_short(name, 60)}", loc="left", fontsize=8.5)
    return figure


def png(figure: "Figure") -> bytes:
    """A figure as a PNG file of 150 dots per inch."""
    return saved(figure, STYLE, format="png", dpi=150)


def saved(figure: "Figure", style: Mapping[str, Any], **options: Any) -> bytes:
    """A figure as a file; the options are those of `Figure.savefig`."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({**style}), warnings.catch_warnings():
        # A name in letters that the font lacks has boxes in their place.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(buffer, **options)
    return buffer.getvalue()


def _reliability(axes: Any, calibration: Mapping[str, Any]) -> None:
    axes.plot([0, 1], [0, 1], color="#8a929c", linewidth=0.8)
    for name, face in (("before", "none"), ("after", POINT)):
        bins = calibration[f"bins_{name}"]
        label = f"{name}, error {calibration[f'error_{name}']:.3f}"
        axes.plot(
            [one["score"] for one in bins], [one["right"] for one in bins], "o", label=label,
            markerfacecolor=face, markeredgecolor=POINT, markersize=6,
        )  # fmt: skip
    for one in calibration["bins_after"]:
        below = one["right"] > one["score"]
        axes.annotate(
            f"{one['found']:,}", (one["score"], one["right"]), (0, 7 if below else -13), textcoords="offset points",
            ha="center", fontsize=6.5,
        )  # fmt: skip
    axes.set(
        xlim=(0, 1.02), ylim=(-0.02, 1.06), xlabel="mean score of the findings in a bin", ylabel="share that is right"
    )
    _plain(axes)
    axes.legend(frameon=False, loc="best", fontsize=8)


def _precision_and_recall(axes: Any, types: Mapping[str, Mapping[str, Any]]) -> None:
    shown = {name: curve["points"] for name, curve in types.items() if curve["points"]}
    largest = sorted(shown, key=lambda name: -types[name]["found"])[:_MOST_TYPES]
    for i, name in enumerate(largest):
        points = shown[name]
        axes.plot(
            [point["recall"] for point in points], [point["precision"] for point in points], marker=".", markersize=4,
            color=_LINES[i % len(_LINES)], linestyle=_STYLES[i // len(_LINES) % len(_STYLES)], linewidth=1.2,
            label=_short(name or "mentions", 30),
        )  # fmt: skip
    lowest = min((point["precision"] for name in largest for point in shown[name]), default=0.0)
    axes.set(xlim=(0, 1.02), ylim=(max(0.0, lowest - 0.05), 1.01), xlabel="recall", ylabel="precision")
    _plain(axes)
    if largest:
        left_out = len(shown) - len(largest)
        title = f"{left_out} smaller types not shown" if left_out else None
        axes.legend(frameon=False, loc="lower left", fontsize=8, title=title, title_fontsize=7)


def _short(name: str, most: int) -> str:
    """A name as a plot takes it: on one line, no formula, and not left out of the legend as names in `_` are."""
    text = " ".join(name.split())
    text = text if len(text) <= most else f"{text[: most - 1]}…"
    return ("\u200b" if text.startswith("_") else "") + text.replace("$", r"\$")


def _plain(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#8a929c", alpha=0.25, linewidth=0.6)
