"""`compactbio recipes`: list the packaged recipes, or show one as YAML."""

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from compactbio import recipes

app = typer.Typer(help="List the packaged recipes, or show one as a start for your own.", invoke_without_command=True)

# Millions of parameters without pooler at the sizes of the recipes; counted in tests.
SIZES = {
    "distil-biobert": 65.2,
    "compact-biobert": 65.2,
    "tiny-biobert": 13.8,
    "bio-distilbert-cased": 65.2,
    "bio-distilbert-uncased": 66.4,
    "bio-tinybert": 14.3,
    "bio-mobilebert": 24.6,
    "relation-biobert": 22.0,
}
_EXAMPLE = "Example: compactbio recipes show distil-biobert > mine.yaml"


@app.callback(epilog=_EXAMPLE)
def list_recipes(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False
) -> None:
    """List the packaged recipes, or show one as a start for your own."""
    if context.invoked_subcommand is not None:
        return
    rows: list[dict[str, Any]] = []
    for name in recipes.names():
        recipe = recipes.load(name)
        rows.append(
            {
                "name": name,
                "kind": recipe.kind,
                "published": recipes.is_published(name),
                "parameters_millions": SIZES[name],
                "start": _start(recipe),
                "summary": recipe.summary,
                "source": recipe.source,
            }
        )
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table(Column("recipe", no_wrap=True), "from", "kind", "M parameters", "start", "what it does")
    for row in rows:
        origin, size = "paper" if row["published"] else "ours", str(row["parameters_millions"])
        table.add_row(row["name"], origin, row["kind"], size, row["start"], row["summary"])
    Console().print(table)
    paper = next(row["source"] for row in rows if row["published"]).partition(";")[0]
    typer.echo(f"Paper: {paper}; each recipe names its script. Ours: this project's own, with no published model.")


def _start(recipe: recipes.Recipe) -> str:
    if recipe.start == "checkpoint":
        return str(recipe.init)
    return f"layers of {recipe.teacher}" if recipe.start == "teacher-layers" else f"random, taught by {recipe.teacher}"


@app.command(epilog=_EXAMPLE)
def show(name: Annotated[str, typer.Argument(help="A recipe of the list.")]) -> None:
    """Print a recipe as YAML, with the source of every number."""
    typer.echo(recipes.text(name), nl=False)
