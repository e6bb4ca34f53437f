"""Draw the entities of an annotated document as a picture.

    compactbio annotate paragraph.txt --model tagger --out entities.jsonl
    python docs/annotated.py entities.jsonl docs/images/annotated.svg

The first document of the JSON lines is drawn. Needs matplotlib, whose font measures the words. The picture does not
depend on a font: each word states its width.
"""

import json
import re
import sys
from dataclasses import dataclass
from functools import cache
from html import escape
from itertools import pairwise
from pathlib import Path

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

WIDTH, MARGIN, SIZE, LABEL, LEADING, PAD = 840, 32, 18.0, 10.5, 42.0, 5.0
COLOURS = ("#fde68a", "#bfdbfe", "#bbf7d0", "#fecaca", "#ddd6fe", "#fbcfe8")
INK, QUIET, GROUND, FRAME = "#1c2024", "#5b6470", "#ffffff", "#d5dae0"
FONT = 'font-family="Verdana, DejaVu Sans, sans-serif"'


@dataclass(frozen=True)
class Piece:
    """A run of text that stays on one line: a word, or an entity with its type."""

    text: str
    type: str = ""


@cache
def width(text: str, size: float, bold: bool = False) -> float:
    """The width of a text in pixels. A blank at either end has no outline, so it is measured between two points."""
    font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    ends = TextPath((0, 0), "..", size=size, prop=font).get_extents().width
    return float(TextPath((0, 0), f".{text}.", size=size, prop=font).get_extents().width - ends)


def units(text: str, spans: list[dict]) -> list[list[Piece]]:
    """The text as words and entities; what touches without a blank between (a comma, "-induced") is one unit."""
    found: list[list[Piece]] = []
    place = 0

    def add(piece: Piece, start: int) -> None:
        if found and start and not text[start - 1].isspace():
            found[-1].append(piece)
        else:
            found.append([piece])

    for span in [*sorted(spans, key=lambda span: span["start"]), {"start": len(text), "end": len(text), "type": ""}]:
        for match in re.finditer(r"\S+", text[place : span["start"]]):
            add(Piece(match.group()), place + match.start())
        if span["type"]:
            add(Piece(" ".join(text[span["start"] : span["end"]].split()), span["type"]), span["start"])
        place = span["end"]
    return found


def piece_width(piece: Piece) -> float:
    label = 2 * PAD + 6 + width(piece.type, LABEL, bold=True) if piece.type else 0
    return width(piece.text, SIZE) + label


def lines(text: str, spans: list[dict]) -> list[list[tuple[float, Piece]]]:
    """Pieces with their places from the left, line by line."""
    blank, laid, x = width(" ", SIZE), [[]], 0.0
    for unit in units(text, spans):
        if x and x + sum(map(piece_width, unit)) > WIDTH - 2 * MARGIN:
            laid.append([])
            x = 0.0
        for piece in unit:
            laid[-1].append((MARGIN + x, piece))
            x += piece_width(piece)
        x += blank
    return laid


def word(text: str, x: float, y: float, size: float, colour: str = INK, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"{weight} {FONT} '
        f'textLength="{width(text, size, bold):.1f}" lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
    )


def draw(text: str, spans: list[dict]) -> str:
    """The picture as SVG; the spans do not overlap."""
    types = sorted({span["type"] for span in spans})
    colours = {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(types)}
    shapes: list[str] = []
    laid = lines(text, spans)
    for row, line in enumerate(laid):
        y = MARGIN + SIZE + row * LEADING
        for x, piece in line:
            if not piece.type:
                shapes.append(word(piece.text, x, y, SIZE))
                continue
            place = f'x="{x:.1f}" y="{y - SIZE - 3:.1f}" width="{piece_width(piece):.1f}" height="{SIZE + 13:.1f}"'
            shapes.append(f'<rect {place} rx="5" fill="{colours[piece.type]}"/>')
            shapes.append(word(piece.text, x + PAD, y, SIZE))
            shapes.append(word(piece.type, x + PAD + width(piece.text, SIZE) + 6, y - 1, LABEL, QUIET, bold=True))
    height = round(2 * MARGIN + SIZE + (len(laid) - 1) * LEADING + 8)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    frame = f'width="{WIDTH - 1}" height="{height - 1}" rx="10" fill="{GROUND}" stroke="{FRAME}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            f"<title>{escape(text)}</title>",
            f'<rect x="0.5" y="0.5" {frame}/>',
            *shapes,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    document = json.loads(source.read_text(encoding="utf-8").splitlines()[0])
    ordered = sorted(document["spans"], key=lambda span: span["start"])
    if any(before["end"] > span["start"] for before, span in pairwise(ordered)):
        sys.exit(f"{source}: entities of its first text overlap, which the picture cannot show.")
    target.write_text(draw(document["text"], document["spans"]), encoding="utf-8")
