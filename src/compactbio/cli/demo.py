"""`compactbio demo`: a teacher, its students and what they are worth, on a synthetic language."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from compactbio.cli import options

EXAMPLE = "Example: compactbio demo --out compactbio-demo"


def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder to fill.")] = Path("compactbio-demo"),
    as_json: options.AsJson = False,
) -> None:
    """Pre-train a teacher, distil students, score all on three tasks, export the best: offline, on synthetic texts.

    Takes minutes on two cores; run again, it resumes where it stopped.
    """
    from rich.console import Console
    from rich.table import Table

    from compactbio.demo import run
    from compactbio.files import locked

    run.check()
    from compactbio.demo import page

    context.with_resource(locked(out))
    with options.stopping("run the same command again to resume, finished work is kept."):
        found = run.demo(out)
    place = out / "demo.html"
    page.write(found, place)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "page": str(place)}, indent=2))
        return
    table = Table(title="Synthetic texts: the figures say nothing about biomedical text")
    for i, name in enumerate(page.header(found)):
        table.add_column(name, justify="left" if i < 2 else "right", no_wrap=i != 1)
    for cells in page.cells(found):
        table.add_row(*cells)
    Console(width=max(130, Console().width)).print(table)
    for sentence in found.verdicts:
        typer.echo(sentence)
    typer.echo(page.exported(found))
    for text in found.annotated:
        typer.echo(f"{page.shown(text)} ({'; '.join(text.differs) or 'as the gold'})")
    typer.echo(f"Page: {place}")
    typer.echo(f"Serve the model: compactbio serve {found.exported['out']}")
