"""`compactbio plan`: what a training run will take."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from compactbio.training.plan import Elsewhere, Plan

EXAMPLE = "Example: compactbio plan distil-biobert --corpus corpora/pubmed --devices 8xH100 --devices L4"


def plan(
    recipe: options.Recipe,
    corpus: options.Corpus,
    teacher: options.Teacher = None,
    init: options.Init = None,
    steps: options.Steps = None,
    settings: options.Settings = None,
    devices: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[N]xNAME",
            help="Accelerators to estimate for, by their data sheet; repeatable.",
            show_default=False,
        ),
    ] = None,
    precision: options.PrecisionChoice = "auto",
    tokens_per_batch: options.TokensPerBatch = None,
    as_json: options.AsJson = False,
) -> None:
    """Forecast tokens, FLOPs, memory and time of `compactbio train` with the same options.

    Times a few real steps on this machine with the real models and rows; nothing of them is kept. `compactbio finetune
    ... --plan` forecasts fine-tuning.
    """
    from compactbio import recipes
    from compactbio.training.plan import plan as run

    loaded = recipes.load(recipe, **options.overrides(settings, steps=steps))
    with options.reporting("nothing was measured") as reporter:
        found = run(
            loaded,
            corpus,
            teacher=teacher,
            init=init,
            precision=precision,
            tokens_per_batch=tokens_per_batch,
            devices=devices or (),
            listener=reporter,
        )
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else _text(found))


def _text(found: "Plan") -> str:
    machine = found.machine
    on = machine["processor"] if machine["device"] == "cpu" else machine["device"]
    teacher = f", teacher {found.teacher_parameters / 1e6:.1f} M" if found.teacher_parameters else ""
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    lines = [
        f"recipe       {found.recipe}: student {found.student_parameters / 1e6:.1f} M parameters{teacher}",
        f"corpus       {found.rows:,} rows of {found.tokens_per_row:.1f} tokens",
        f"steps        {found.steps:,}: {found.citations:,} citations, {found.epochs:.2f} epochs, "
        f"{_short(found.tokens).strip()} tokens",
        f"arithmetic   {_short(found.flops_per_token)}FLOP per token, {_short(found.flops)}FLOP in all",
        f"measured     {found.tokens_per_second:,.0f} tokens/s in {found.timed_steps} steps, {found.precision}, "
        f"{threads}, {on}",
        f"memory       {found.memory_bytes / 1e9:.1f} GB at {found.tokens_per_batch:,} tokens per micro-batch",
        f"time         {options.duration(found.seconds)}: training {options.duration(found.training_seconds)}, "
        f"held-out {options.duration(found.heldout_seconds)}, checkpoints {options.duration(found.checkpoint_seconds)}",
    ]
    if found.elsewhere:
        share = found.elsewhere[0].share
        lines += ["", f"By data sheets, not measured: bf16, {share:.0%} of the rate that the sheet names."]
        lines += [_elsewhere(run) for run in found.elsewhere]
    return "\n".join(lines)


def _elsewhere(run: "Elsewhere") -> str:
    fits = "" if run.fits else ": too little, lower --tokens-per-batch"
    return (
        f"{run.count} x {run.device:10} {options.duration(3600 * run.hours)} (at all of the rate "
        f"{options.duration(3600 * run.hours_at_full_rate)}); about {run.memory_bytes / 1e9:.0f} GB per device at "
        f"{run.tokens_per_batch:,} tokens per micro-batch{fits}"
    )


def _short(number: float) -> str:
    for size, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:,.0f} "
