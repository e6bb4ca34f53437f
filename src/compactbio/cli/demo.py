"""`compactbio demo`: the whole way on a synthetic corpus."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: compactbio demo --out compactbio-demo"


def demo(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="The folder to fill.")] = Path("compactbio-demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Run the whole way on a synthetic corpus, offline: corpus, teacher, students, one of them at work, table, page.

    Takes a few minutes on two cores; run again, it takes up where it stopped.
    """
    from rich.console import Console
    from rich.table import Table

    from compactbio.demo import page
    from compactbio.demo.run import demo as run
    from compactbio.files import locked

    page.check()
    context.with_resource(locked(out))
    try:
        found = run(out)
    except KeyboardInterrupt:
        typer.echo("Stopped; run the same command again to go on, finished work is kept.", err=True)
        raise typer.Exit(130) from None
    place = out / "demo.html"
    page.write(found, place)
    if as_json:
        typer.echo(json.dumps({**asdict(found), "page": str(place)}, indent=2))
        return
    table = Table(title="Synthetic corpus: the figures say nothing about biomedical text")
    for i, name in enumerate(page.HEADER):
        table.add_column(name, justify="left" if i < 2 else "right", no_wrap=i < 2)
    for row in found.rows:
        table.add_row(*page.cells(row))
    Console(width=max(110, Console().width)).print(table)
    typer.echo(f"A unigram model has a held-out loss of {found.unigram:.3f}.")
    for sentence in found.verdicts():
        typer.echo(sentence)
    typer.echo(f"A student at work (synthetic, F1 {found.tagged.f1:.2%}): {found.tagged.shown()}")
    typer.echo(f"Page: {place}")
    typer.echo(f"Serve it: compactbio serve {found.tagged.model}")
