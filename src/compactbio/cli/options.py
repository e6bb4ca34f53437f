"""Options that several commands share, and what they do with them."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from compactbio.progress import Reporter

TaskName = Literal["ner", "relation", "qa"]
Precision = Literal["auto", "bf16", "fp32"]
Runtime = Literal["auto", "fastest", "torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8"]
Device = Literal["auto", "cpu", "cuda"]
Scheme = Literal["chemprot", "labels"]
# `formats.READABLE` and `formats.recognise.TEXTS`, which are not imported for the help alone.
DataFormat = Literal[
    "conll", "pubtator", "bioc", "bioc-json", "brat", "hf-jsonl", "bigbio", "squad", "bioasq", "marked", "marked-jsonl",
    "jsonl",
]  # fmt: skip
TextFormat = Literal[
    "text", "pubmed", "jsonl", "parquet", "pubtator", "bioc", "bioc-json", "brat", "conll", "hf-jsonl", "bigbio",
    "squad", "bioasq", "marked",
]  # fmt: skip
TaskChoice = Annotated[
    TaskName | None, typer.Option("--task", help="By default recognised from the data.", show_default=False)
]
DataFormatChoice = Annotated[
    DataFormat | None,
    typer.Option("--format", help="The format of the data; by default recognised.", show_default=False),
]
TextsFormat = Annotated[
    TextFormat | None,
    typer.Option("--input-format", help="The format of all inputs; by default recognised.", show_default=False),
]
RuntimeChoice = Annotated[
    Runtime,
    typer.Option(
        "--runtime",
        help="auto is what the folder was exported for, else PyTorch in fp32; fastest measures, and keeps the answer.",
    ),
]
DeviceChoice = Annotated[Device, typer.Option("--device", help="auto is a CUDA GPU where there is one.")]
MinPrecision = Annotated[
    float | None,
    typer.Option(
        "--min-precision",
        help="Leave out mentions of a score at which, on the data that the model was calibrated on, fewer of the type "
        "were right than this share (0.95).",
        show_default=False,
    ),
]
Recipe = Annotated[str, typer.Argument(help="A packaged recipe's name, or a YAML file.", show_default=False)]
Corpus = Annotated[Path, typer.Option(help="A folder made by `corpus build`.", show_default=False)]
Teacher = Annotated[str | None, typer.Option(help="Folder or hub name; by default the recipe's.", show_default=False)]
Init = Annotated[
    str | None, typer.Option(help="Where a `continue` recipe starts; by default its own.", show_default=False)
]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps; the warm-up keeps its share.", show_default=False)]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the recipe.", show_default=False),
]
PrecisionChoice = Annotated[Precision, typer.Option("--precision", help="bf16 where the hardware has it, else fp32.")]
TokensPerBatch = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Tokens per micro-batch, the unit of memory; 4,096 on a CPU, 32,768 on CUDA. In training another number "
        "draws other dropout masks; without dropout it changes results by rounding only.",
        show_default=False,
    ),
]
Negative = Annotated[
    list[str] | None,
    typer.Option(
        "--negative",
        metavar="LABEL",
        help="Relations: the class of no relation; repeatable. By default known by its name.",
        show_default=False,
    ),
]
SchemeChoice = Annotated[
    Scheme | None,
    typer.Option(
        "--scheme",
        help="Relations: chemprot scores ChemProt's five groups, labels each label by itself. By default known by the "
        "labels.",
        show_default=False,
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Resume the run in --out.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def overrides(settings: list[str] | None, **given: Any) -> dict[str, Any]:
    """The values that --set names, by key, and those `given` by options of their own that are not None."""
    from compactbio import recipes

    merged: dict[str, Any] = {}
    for setting in settings or []:
        for key, value in recipes.parse_setting(setting).items():
            nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
            merged[key] = {**merged[key], **value} if nested else value
    return merged | {key: value for key, value in given.items() if value is not None}


def stopped(what: str, out: Path) -> typer.Exit:
    """Print that a run was stopped and the command that resumes it, or begins it where nothing was written yet."""
    begun = any((out / record).exists() for record in ("run.json", "search.json"))
    again = [word for word in sys.argv[1:] if word != "--resume"] + ["--resume"] * begun
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        how = f"with the same torchrun command, ending in: -m compactbio {shlex.join(again)}"
    else:
        how = f"with: compactbio {shlex.join(again)}"
    typer.echo(f"{what} {'Resume it' if begun else 'Begin it again'} {how}", err=True)
    return typer.Exit(130)


@contextmanager
def reporting(undone: str) -> Iterator["Reporter"]:
    """Within it progress goes to stderr; Ctrl-C ends the command, which says that `undone` ("nothing was written")."""
    from rich.console import Console

    from compactbio.progress import Reporter

    try:
        with Reporter(Console(stderr=True)) as reporter:
            yield reporter
    except KeyboardInterrupt:
        typer.echo(f"Stopped; {undone}.", err=True)
        raise typer.Exit(130) from None


def speaks() -> bool:
    """Whether this process, of those that torchrun started, is the one that prints results."""
    return os.environ.get("RANK", "0") == "0"


_UNITS = ((86400, "days"), (3600, "hours"), (60, "minutes"))


def duration(seconds: float) -> str:
    """A time in the largest unit of which it has one and a half: "1.6 hours"."""
    for size, name in _UNITS:
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
