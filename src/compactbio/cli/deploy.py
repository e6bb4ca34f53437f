"""`compactbio export`: a fine-tuned model for ONNX Runtime, int8 only where it keeps the score; `compactbio profile`:
the size, speed and memory of models, beside a baseline."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from compactbio.deploy.export import Exported, Figures
    from compactbio.deploy.profile import Conditions, Profile

EXPORT_EXAMPLE = "Example: compactbio export tagger --format onnx-int8 --data NER/NCBI-disease --out tagger-int8"
PROFILE_EXAMPLE = "Example: compactbio profile models/teacher models/distil-biobert models/tiny-biobert"


def export(
    model: Annotated[str, typer.Argument(help="A fine-tuned model: folder or hub name.")],
    out: Annotated[Path, typer.Option(help="The folder to write; may be the model's own.")],
    format: Annotated[
        Literal["onnx", "onnx-int8"], typer.Option(help="fp32, or int8 weights and activations.")
    ] = "onnx",
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="A data set to score it on beside the original; int8 needs one. Repeatable: the loss is limited on "
            "each."
        ),
    ] = None,
    split: Annotated[
        Literal["train", "devel", "test"] | None, typer.Option(help="By default devel where there is one, else test.")
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0.0, help="What the main score may lose, in percentage points, before int8 is refused.")
    ] = 0.3,
    as_json: options.AsJson = False,
) -> None:
    """Export a fine-tuned model to ONNX, checked against the original.

    Int8 is scored on the data; where it loses too much, weights are quantised by channel, then the layers that suffer
    most are left in fp32; where it still loses too much, it is refused.
    """
    from compactbio import api

    with options.reporting("nothing was written.") as reporter:
        found = api.export(
            model, out, format=format, data=data or None, split=split, max_loss=max_loss, listener=reporter
        )
    options.show(found, as_json, _text)


def _text(found: "Exported") -> str:
    data = found.data
    lines = [f"wrote        {found.out}/{found.file}"]
    if data:
        lines.append(f"scored on    {data['name']}, {data['split']}, {found.metric}")
    if found.not_compared:
        lines.append(f"not compared {', '.join(found.not_compared)}")
    lines += [_figures(one, found) for one in (found.original, found.exported)]
    if found.way:
        lines.append(f"quantised    {found.way}")
    lines += [f"lost too much {way}, with {found.metric} {100 * score:.2f}" for way, score in found.tried]
    return "\n".join([*lines, f"machine      {found.machine}"])


def _figures(one: "Figures", found: "Exported") -> str:
    score = ""
    if one.score is not None and one.interval is not None:
        low, high = one.interval
        score = f"{found.metric} {100 * one.score:.2f} (95 % interval {100 * low:.2f} to {100 * high:.2f}), "
    return f"{one.runtime:13}{score}{one.bytes / 1e6:.1f} MB, {one.tokens_per_second:,.0f} tokens/s"


def profile(
    models: Annotated[list[str], typer.Argument(metavar="MODEL", help="Folders or hub names.")],
    baseline: Annotated[str | None, typer.Option(help="The model to compare with; by default the first.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object per model as JSON.")] = False,
) -> None:
    """Measure parameters, size, FLOPs, latency, throughput and memory of encoders, beside a baseline.

    The models run in turns on random tokens, so that other load on the machine affects all alike.
    """
    from rich.console import Console

    from compactbio.deploy.profile import profile as run

    with options.reporting("nothing was measured.") as reporter:
        found = run(models, baseline=baseline, listener=reporter)
    if as_json:
        typer.echo(json.dumps([asdict(own) for own in found], indent=2))
        return
    Console(width=max(110, Console().width)).print(_table(found))
    typer.echo(_machine(found[0].conditions))


def _table(found: list["Profile"]) -> "Table":
    from rich.table import Table

    table = Table(title=f"Below each figure its ratio to that of {found[0].baseline}")
    table.add_column("model", overflow="fold")
    for heading in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for own in found:
        table.add_row(own.model, *(column(own) for column in _COLUMNS.values()))
    return table


# Headings of the table, and what is in a model's row.
_COLUMNS: dict[str, Callable[["Profile"], str]] = {
    "parameters\nM": lambda p: f"{p.parameters / 1e6:.2f}\n{p.ratios['parameters']:.2f}x",
    "embeddings\nM": lambda p: f"{p.embedding_parameters / 1e6:.2f}",
    "layers\nM": lambda p: f"{(p.encoder_parameters - p.embedding_parameters) / 1e6:.2f}",
    "disk\nMB": lambda p: f"{p.disk_bytes / 1e6:.1f}\n{p.ratios['disk']:.2f}x",
    "FLOPs\nM/token": lambda p: f"{p.flops_per_token / 1e6:.2f}\n{p.ratios['flops']:.2f}x",
    "latency\nms": lambda p: f"{p.latency_ms:.1f}\n{p.ratios['latency']:.2f}x",
    "95 %\nms": lambda p: f"{p.latency_p95_ms:.1f}",
    "throughput\ntokens/s": lambda p: f"{p.throughput_tokens_per_second:,.0f}\n{p.ratios['throughput']:.2f}x",
    "memory\nMB": lambda p: f"{p.peak_memory_bytes / 1e6:.0f}\n{p.ratios['memory']:.2f}x",
}


def _machine(conditions: "Conditions") -> str:
    on = "" if conditions.device == "cpu" else f"{conditions.device}, "
    return (
        f"Machine: {on}{conditions.processor}, {options.threads(conditions.threads)}, {conditions.precision}, "
        f"torch {conditions.torch}. "
        "Parameters are all that the files hold; the rest is of encoders without head: "
        f"latency of one sentence of {conditions.latency_tokens} tokens; "
        f"FLOPs, throughput and memory on {conditions.sentences} packed sentences of {conditions.sentence_tokens}."
    )
