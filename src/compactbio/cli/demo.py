"""`compactbio demo`: the whole way on a synthetic corpus."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "Example: compactbio demo --out demo"


def demo(out: Annotated[Path, typer.Option(help="The folder to fill.")] = Path("compactbio-demo")) -> None:
    """Run."""
