"""`compactbio train`: a recipe, a corpus and a teacher in, a compact model out."""

import json
import os
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from compactbio.training.pretraining import Result

EXAMPLE = (
    "Example: compactbio train distil-biobert --corpus corpora/pubmed --teacher dmis-lab/biobert-base-cased-v1.2 "
    "--out models/distil-biobert --set learning_rate=3e-4"
)


def train(
    recipe: options.Recipe,
    corpus: options.Corpus,
    out: Annotated[Path, typer.Option(help="The folder of the run, and then of the model.", show_default=False)],
    teacher: options.Teacher = None,
    init: options.Init = None,
    steps: options.Steps = None,
    settings: options.Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that --out holds.")] = False,
    precision: options.PrecisionChoice = options.Precision.auto,
    tokens_per_batch: options.TokensPerBatch = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload the model to the hub.", show_default=False)
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a compact model: distil a teacher, or continue a checkpoint.

    The run can be stopped at any moment and goes on with --resume; Ctrl-C saves a checkpoint first.
    """
    from compactbio import recipes
    from compactbio.training import pretraining, run_folder

    loaded = recipes.load(recipe, **options.overrides(settings or [], steps))
    try:
        result = pretraining.train(
            loaded,
            corpus,
            out,
            teacher=teacher,
            init=init,
            precision=precision.value,
            tokens_per_batch=tokens_per_batch,
            resume=resume,
        )
    except KeyboardInterrupt:
        typer.echo(
            f"Stopped; what was saved is kept. {_how_to_go_on(resume or (out / run_folder.RUN).exists())}", err=True
        )
        raise typer.Exit(130) from None
    if not pretraining.speaks():
        return
    if result.state == "stopped":
        typer.echo(f"Stopped at step {result.step}, checkpoint saved. {_how_to_go_on(True)}", err=True)
        raise typer.Exit(130)
    address = pretraining.push(out, push) if push else None
    typer.echo(json.dumps({**asdict(result), "pushed": address}, indent=2) if as_json else _text(result))
    if address and not as_json:
        typer.echo(f"pushed to    {address}")


def _how_to_go_on(resume: bool) -> str:
    again = [word for word in sys.argv[1:] if word != "--resume"] + ["--resume"] * resume
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return f"Go on with the same torchrun command, its end being: -m compactbio {shlex.join(again)}"
    return f"Go on with: compactbio {shlex.join(again)}"


def _text(result: "Result") -> str:
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
