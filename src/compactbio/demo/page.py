"""The demo's page: the table and the curves as one HTML file that needs nothing from outside."""

import html
import io
from importlib.util import find_spec
from pathlib import Path

from compactbio.demo.data import MAX_LENGTH
from compactbio.demo.run import Row, Table, Tagged
from compactbio.errors import UserError
from compactbio.files import write_text

HEADER = ("model", "how", "M parameters", "MB", "held-out loss", "masked tokens right", "tokens/s")

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>compactbio demo</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }}
table {{ border-collapse: collapse; width: 100%; }}
td:first-child {{ white-space: nowrap; }}
th, td {{ padding: .4rem .6rem; border-bottom: 1px solid #d5dbe3; text-align: left; }}
td.number, th.number {{ text-align: right; font-variant-numeric: tabular-nums; }}
.notice {{ background: #fff4d6; border-left: 4px solid #d99a00; padding: .6rem 1rem; }}
mark {{ padding: .1em .3em; border-radius: .3em; background: #cfe8ff; }}
svg {{ width: 100%; height: auto; }}
</style></head><body>
<h1>compactbio demo</h1>
<p class="notice"><strong>Synthetic.</strong> These models were trained for minutes on abstracts that a grammar made.
The figures show that the way works, and nothing about biomedical text.</p>
<h2>Teacher and students</h2>
{table}
<p>Rows are title and first sentence, at most {length} tokens. Losses in nats a masked token, on {masked:,} masked
tokens of held-out rows; one run, seed 0. A unigram model has {unigram:.3f}. Parameters are those of the encoder.
Tokens/s: the held-out rows through encoder and head on this machine, median of three.</p>
<ul>{verdicts}</ul>
<h2>A student at work</h2>
<p>{tagged}</p>
<p>The distilled student, fine-tuned on synthetic documents, has an F1 of {f1:.2%} on others (one run, seed 0, strict
ends and types). Serve it, with a page to try it on: <code>compactbio serve {model}</code></p>
<h2>Held-out loss while training</h2>
{plot}
</body></html>
"""


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of `HEADER`."""
    return (
        row.model,
        row.how,
        f"{row.parameters / 1e6:.2f}",
        f"{row.megabytes:.1f}",
        f"{row.loss:.3f}",
        f"{row.accuracy:.1%}",
        f"{row.tokens_per_second:,.0f}",
    )


def write(table: Table, path: Path) -> None:
    """Write the page. Raises UserError where matplotlib is missing."""
    check()
    verdicts = "".join(f"<li>{html.escape(sentence)}</li>" for sentence in table.verdicts())
    page = _PAGE.format(
        table=_table(table),
        length=MAX_LENGTH,
        masked=table.masked,
        unigram=table.unigram,
        verdicts=verdicts,
        plot=_plot(table),
        tagged=_marked(table.tagged),
        f1=table.tagged.f1,
        model=html.escape(table.tagged.model),
    )
    write_text(path, page)


def _marked(tagged: Tagged) -> str:
    parts, end = [], 0
    for entity in tagged.entities:
        parts.append(html.escape(tagged.text[end : entity.start]))
        parts.append(f"<mark>{html.escape(entity.text)} <small>{html.escape(entity.type)}</small></mark>")
        end = entity.end
    return "".join([*parts, html.escape(tagged.text[end:])])


def _table(table: Table) -> str:
    head = "".join(_cell("th", i, name) for i, name in enumerate(HEADER))
    body = "".join(
        "<tr>" + "".join(_cell("td", i, cell) for i, cell in enumerate(cells(row))) + "</tr>" for row in table.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(tag: str, column: int, text: str) -> str:
    kind = ' class="number"' if column > 1 else ""
    return f"<{tag}{kind}>{html.escape(text)}</{tag}>"


def check() -> None:
    """Raise UserError where matplotlib, which draws the curves, is missing."""
    if find_spec("matplotlib") is None:
        raise UserError("The demo's page needs matplotlib: pip install 'compactbio[plots]'.")


def _plot(table: Table) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set_title("teacher")
    left.plot(*zip(*table.curves["teacher"], strict=True), marker="o", color="#334e68")
    left.axhline(table.unigram, color="#9fb3c8", linestyle=":", label="unigram model")
    left.legend(frameon=False)
    right.set_title("students")
    colours = {
        "distil-biobert": "#0b7285",
        "compact-biobert": "#c92a2a",
        "tiny-biobert": "#5f3dc4",
        "continued": "#2b8a3e",
    }
    for name, points in table.curves.items():
        base = name.removesuffix("-mlm-alone")
        if base in colours:
            style = "--" if base != name else "-"
            label = f"{base}, MLM alone" if base != name else name
            right.plot(*zip(*points, strict=True), style, color=colours[base], label=label)
    right.legend(frameon=False, fontsize="small")
    for axes in (left, right):
        axes.set_xlabel("step")
        axes.set_ylabel("held-out loss (nats)")
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]
