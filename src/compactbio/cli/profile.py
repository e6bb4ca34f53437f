"""`compactbio profile`: the size, speed and memory of models, beside a baseline."""

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from rich.table import Table

    from compactbio.deploy.profile import Conditions, Profile

EXAMPLE = "Example: compactbio profile models/teacher models/distil-biobert models/tiny-biobert"


def profile(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Folders or hub names.", show_default=False)],
    baseline: Annotated[
        str | None, typer.Option(help="The model to compare with; by default the first.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one object per model as JSON.")] = False,
) -> None:
    """Measure parameters, size, FLOPs, latency, throughput and memory of encoders, beside a baseline.

    The models run in turns on random tokens, so that other load on the machine affects all alike.
    """
    from rich.console import Console

    from compactbio.deploy.profile import profile as run

    with options.reporting("nothing was measured") as reporter:
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
    threads = "1 thread" if conditions.threads == 1 else f"{conditions.threads} threads"
    return (
        f"Machine: {on}{conditions.processor}, {threads}, {conditions.precision}, torch {conditions.torch}. "
        "Parameters are all that the files hold; the rest is of encoders without head: "
        f"latency of one sentence of {conditions.latency_tokens} tokens; "
        f"FLOPs, throughput and memory on {conditions.sentences} packed sentences of {conditions.sentence_tokens}."
    )
