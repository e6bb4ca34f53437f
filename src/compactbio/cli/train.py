"""`compactbio train`, from a recipe, a corpus and a teacher to a compact model; `compactbio plan`: what that takes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from compactbio.training.plan import Elsewhere, Plan
    from compactbio.training.pretraining import Result

TRAIN_EXAMPLE = (
    "Example: compactbio train distil-biobert --corpus corpora/pubmed --teacher dmis-lab/biobert-base-cased-v1.2 "
    "--out models/distil-biobert --set learning_rate=3e-4"
)
PLAN_EXAMPLE = "Example: compactbio plan distil-biobert --corpus corpora/pubmed --devices 8xH100 --devices L4"
Recipe = Annotated[str, typer.Argument(help="A packaged recipe's name, or a YAML file.")]
Corpus = Annotated[Path, typer.Option(help="A folder made by `corpus build`.")]
Teacher = Annotated[str | None, typer.Option(help="Folder or hub name; by default the recipe's.")]
Init = Annotated[str | None, typer.Option(help="Where a `continue` recipe starts; by default its own.")]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps; the warm-up keeps its share.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a field of the recipe.")
]


def train(
    recipe: Recipe,
    corpus: Corpus,
    out: Annotated[Path, typer.Option(help="The folder of the run, and then of the model.")],
    teacher: Teacher = None,
    init: Init = None,
    steps: Steps = None,
    settings: Settings = None,
    resume: options.Resume = False,
    device: options.DeviceChoice = "auto",
    precision: options.PrecisionChoice = "auto",
    tokens_per_batch: options.TokensPerBatch = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Upload the model to the hub; one that is made there is private."),
    ] = None,
    public: Annotated[bool, typer.Option("--public", help="With --push: make a public model.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Make a compact model: distil a teacher, or continue a checkpoint.

    The run can be stopped at any moment and resumed with --resume; Ctrl-C saves a checkpoint first.
    """
    from compactbio import recipes
    from compactbio.errors import UserError
    from compactbio.modeling.hardware import on_device
    from compactbio.training import pretraining, run_folder

    if public and push is None:
        raise UserError("--public goes with --push OWNER/NAME.")
    loaded = recipes.load(recipe, **options.overrides(settings, steps=steps))
    try:
        with on_device(device):
            result = pretraining.train(
                loaded,
                corpus,
                out,
                teacher=teacher,
                init=init,
                precision=precision,
                tokens_per_batch=tokens_per_batch,
                resume=resume,
            )
    except KeyboardInterrupt:
        raise options.stopped("Stopped; what was saved is kept.", out) from None
    if not options.speaks():
        return
    if result.state == "stopped":
        raise options.stopped(f"Stopped at step {result.step}, checkpoint saved.", out)
    address = run_folder.push(out, push, private=not public) if push is not None else None
    typer.echo(json.dumps({**asdict(result), "pushed": address}, indent=2) if as_json else _trained(result))
    if address and not as_json:
        typer.echo(f"pushed to    {address}")


def _trained(result: "Result") -> str:
    lines = [f"model        {result.out} ({result.parameters / 1e6:.1f} M parameters)", f"state        {result.state}"]
    lines.append(f"steps        {result.step:,}, kept step {result.best_step:,}" if result.best_step else "")
    if result.heldout_loss is not None:
        lines.append(f"held-out     loss {result.heldout_loss:.4f}, accuracy {result.heldout_accuracy:.2%}")
    if result.teacher_heldout_loss is not None:
        lines.append(
            f"its teacher  loss {result.teacher_heldout_loss:.4f}, accuracy {result.teacher_heldout_accuracy:.2%}"
        )
    lines += [f"note         {note}" for note in result.notes]
    return "\n".join(filter(None, lines))


def plan(
    recipe: Recipe,
    corpus: Corpus,
    teacher: Teacher = None,
    init: Init = None,
    steps: Steps = None,
    settings: Settings = None,
    devices: Annotated[
        list[str] | None,
        typer.Option(metavar="[N]xNAME", help="Accelerators to estimate for, by their data sheet; repeatable."),
    ] = None,
    device: options.DeviceChoice = "auto",
    precision: options.PrecisionChoice = "auto",
    tokens_per_batch: options.TokensPerBatch = None,
    as_json: options.AsJson = False,
) -> None:
    """Forecast tokens, FLOPs, memory and time of `compactbio train` with the same options.

    Times a few real steps on this machine with the real models and rows; nothing of them is kept. `compactbio finetune
    ... --plan` forecasts fine-tuning.
    """
    from compactbio import recipes
    from compactbio.modeling.hardware import on_device
    from compactbio.training.plan import plan as run

    loaded = recipes.load(recipe, **options.overrides(settings, steps=steps))
    with options.reporting("nothing was measured.") as reporter, on_device(device):
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
    options.show(found, as_json, _planned)


def _planned(found: "Plan") -> str:
    teacher = f", teacher {found.teacher_parameters / 1e6:.1f} M" if found.teacher_parameters else ""
    lines = [
        f"recipe       {found.recipe}: student {found.student_parameters / 1e6:.1f} M parameters{teacher}",
        f"corpus       {found.rows:,} rows of {found.tokens_per_row:.1f} tokens",
        f"steps        {found.steps:,}: {found.citations:,} citations, {found.epochs:.2f} epochs, "
        f"{_short(found.tokens).strip()} tokens",
        f"arithmetic   {_short(found.flops_per_token)}FLOP per token, {_short(found.flops)}FLOP in all",
        f"measured     {found.tokens_per_second:,.0f} tokens/s in {found.timed_steps} steps, {found.precision}, "
        f"{options.measured_on(found.machine)}",
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
