"""Options that several commands share, and what they do with them."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from compactbio.progress import Reporter

Runtime = Literal["auto", "fastest", "torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8"]
# `formats.READABLE` and `formats.recognise.TEXTS`, which are not imported for the help alone.
DataFormat = Literal[
    "conll", "pubtator", "bioc", "bioc-json", "brat", "drugprot", "hf-jsonl", "bigbio", "squad", "squad-rows", "bioasq",
    "marked", "marked-jsonl", "jsonl", "parquet",
]  # fmt: skip
TextFormat = Literal[
    "text", "pubmed", "jsonl", "parquet", "pubtator", "bioc", "bioc-json", "brat", "conll", "hf-jsonl", "bigbio",
    "squad", "squad-rows", "bioasq", "marked",
]  # fmt: skip
TaskChoice = Annotated[
    Literal["ner", "relation", "qa"] | None, typer.Option(help="By default recognised from the data.")
]
DataFormatChoice = Annotated[DataFormat | None, typer.Option(help="The format of the data; by default recognised.")]
TextsFormat = Annotated[TextFormat | None, typer.Option(help="The format of all inputs; by default recognised.")]
RuntimeChoice = Annotated[
    Runtime,
    typer.Option(
        help="auto is what the folder was exported for, else PyTorch in fp32; fastest measures, and keeps the answer."
    ),
]
DeviceChoice = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto is a CUDA GPU where there is one.")]
MinPrecision = Annotated[
    float | None,
    typer.Option(
        help="Keep only mentions whose score reached this precision for their type on the data that the model was "
        "calibrated on, for example 0.95."
    ),
]
PrecisionChoice = Annotated[
    Literal["auto", "bf16", "fp32"], typer.Option(help="bf16 where the hardware has it, else fp32.")
]
TokensPerBatch = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Tokens per micro-batch, the unit of memory; 4,096 on a CPU, 32,768 on CUDA. In training another number "
        "draws other dropout masks; without dropout it changes results by rounding only.",
    ),
]
Negative = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LABEL", help="Relations: the class of no relation; repeatable. By default known by its name."
    ),
]
SchemeChoice = Annotated[
    Literal["chemprot", "labels"] | None,
    typer.Option(
        help="Relations: chemprot scores ChemProt's five groups, labels each label by itself. By default known by the "
        "labels."
    ),
]
# What Ctrl-C means where the same command resumes.
RUN_AGAIN = "finished work is kept. Run the same command again to resume."
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
def stopping(sentence: str) -> Iterator[None]:
    """Within it Ctrl-C ends the command, which says what that means ("nothing was written.")."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"Stopped; {sentence}", err=True)
        raise typer.Exit(130) from None


@contextmanager
def reporting(sentence: str) -> Iterator["Reporter"]:
    """As `stopping`; progress goes to stderr."""
    from rich.console import Console

    from compactbio.progress import Reporter

    with stopping(sentence), Reporter(Console(stderr=True)) as reporter:
        yield reporter


def show(result: Any, as_json: bool, text: Callable[[Any], str]) -> None:
    """Print a dataclass as JSON or as the text that `text` makes of it."""
    typer.echo(json.dumps(asdict(result), indent=2) if as_json else text(result))


def speaks() -> bool:
    """Whether this process, of those that torchrun started, is the one that prints results."""
    return os.environ.get("RANK", "0") == "0"


def threads(count: int) -> str:
    """ "1 thread", or "N threads"."""
    return "1 thread" if count == 1 else f"{count} threads"


def measured_on(machine: Mapping[str, Any]) -> str:
    """The threads and the processor or GPU of `hardware.machine`."""
    return f"{threads(machine['threads'])}, {machine['processor' if machine['device'] == 'cpu' else 'device']}"


def duration(seconds: float) -> str:
    """A time in the largest unit of which it has one and a half: "1.6 hours"."""
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.0f} s"
