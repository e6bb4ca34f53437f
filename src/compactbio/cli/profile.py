"""`compactbio profile`: the size, speed and memory of models, beside a baseline."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

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
    from compactbio.progress import Reporter

    try:
        with Reporter(Console(stderr=True)) as reporter:
            found = run(models, baseline=baseline, listener=reporter)
    except KeyboardInterrupt:
        typer.echo("Stopped; nothing was measured.", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    Console(width=max(110, Console().width)).print(_table(found))
    typer.echo(_machine(found[0].conditions))


def _table(found: list["Profile"]) -> "Table":
    from rich.table import Table

    table = Table(title=f"Below each figure its ratio to that of {found[0].baseline}")
    table.add_column("model", overflow="fold")
    for name in (
        "parameters\nM",
        "embeddings\nM",
        "layers\nM",
        "disk\nMB",
        "FLOPs\nM/token",
        "latency\nms",
        "95 %\nms",
        "throughput\ntokens/s",
        "memory\nMB",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        table.add_row(*_cells(one))
    return table


def _cells(one: "Profile") -> list[str]:
    return [
        one.model,
        f"{one.parameters / 1e6:.2f}\n{one.ratios['parameters']:.2f}x",
        f"{one.embedding_parameters / 1e6:.2f}",
        f"{(one.encoder_parameters - one.embedding_parameters) / 1e6:.2f}",
        f"{one.disk_bytes / 1e6:.1f}\n{one.ratios['disk']:.2f}x",
        f"{one.flops_per_token / 1e6:.2f}\n{one.ratios['flops']:.2f}x",
        f"{one.latency_ms:.1f}\n{one.ratios['latency']:.2f}x",
        f"{one.latency_p95_ms:.1f}",
        f"{one.throughput_tokens_per_second:,.0f}\n{one.ratios['throughput']:.2f}x",
        f"{one.peak_memory_bytes / 1e6:.0f}\n{one.ratios['memory']:.2f}x",
    ]


def _machine(conditions: "Conditions") -> str:
    on = "" if conditions.device == "cpu" else f"{conditions.device}, "
    threads = "1 thread" if conditions.threads == 1 else f"{conditions.threads} threads"
    return (
        f"Machine: {on}{conditions.processor}, {threads}, {conditions.precision}, torch {conditions.torch}. "
        "Parameters are all that the files hold; the rest is of encoders without head: "
        f"latency of one sentence of {conditions.latency_tokens} tokens; "
        f"FLOPs, throughput and memory on {conditions.sentences} packed sentences of {conditions.sentence_tokens}."
    )
