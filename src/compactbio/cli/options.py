"""Options that several commands share, and what they do with them."""

import os
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer


class Precision(StrEnum):
    auto = "auto"
    bf16 = "bf16"
    fp32 = "fp32"


class Runtime(StrEnum):
    auto = "auto"
    fastest = "fastest"
    torch_fp32 = "torch-fp32"
    torch_bf16 = "torch-bf16"
    onnx_fp32 = "onnx-fp32"
    onnx_int8 = "onnx-int8"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class DataFormat(StrEnum):
    """`formats.READABLE`."""

    conll = "conll"
    pubtator = "pubtator"
    bioc = "bioc"
    bioc_json = "bioc-json"
    brat = "brat"
    hf_jsonl = "hf-jsonl"
    bigbio = "bigbio"
    squad = "squad"
    bioasq = "bioasq"
    marked = "marked"
    marked_jsonl = "marked-jsonl"
    jsonl = "jsonl"


class TextFormat(StrEnum):
    """`formats.recognise.TEXTS`."""

    text = "text"
    pubmed = "pubmed"
    jsonl = "jsonl"
    parquet = "parquet"
    pubtator = "pubtator"
    bioc = "bioc"
    bioc_json = "bioc-json"
    brat = "brat"
    conll = "conll"
    hf_jsonl = "hf-jsonl"
    bigbio = "bigbio"
    squad = "squad"
    bioasq = "bioasq"
    marked = "marked"


DataFormatChoice = Annotated[
    DataFormat | None,
    typer.Option("--format", help="The format of the data; by default recognised.", show_default=False),
]
TextsFormat = Annotated[
    TextFormat | None,
    typer.Option("--input-format", help="The format of all inputs; by default recognised.", show_default=False),
]


class Scheme(StrEnum):
    chemprot = "chemprot"
    labels = "labels"


RuntimeChoice = Annotated[
    Runtime,
    typer.Option(
        "--runtime",
        help="auto is what the folder was exported for, else PyTorch in fp32; fastest measures, and keeps the answer.",
    ),
]
DeviceChoice = Annotated[Device, typer.Option("--device", help="auto is a CUDA GPU where there is one.")]
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


def speaks() -> bool:
    """Whether this process, of those that torchrun started, is the one that prints results."""
    return os.environ.get("RANK", "0") == "0"


def use(device: Device) -> None:
    """Keep PyTorch, here and in worker processes, to a device. Raises UserError for a GPU that is not there."""
    if device is Device.cpu:
        # Read when PyTorch first looks for GPUs, which it has not done yet.
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif device is Device.cuda:
        import torch

        from compactbio.errors import UserError

        if not torch.cuda.is_available():
            raise UserError("There is no CUDA GPU that PyTorch can use: leave --device out, or take --device cpu.")
