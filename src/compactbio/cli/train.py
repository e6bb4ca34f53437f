"""`compactbio train`: from a recipe, a corpus and a teacher to a compact model."""

import json
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
    resume: options.Resume = False,
    precision: options.PrecisionChoice = "auto",
    tokens_per_batch: options.TokensPerBatch = None,
    push: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Upload the model to the hub.", show_default=False)
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a compact model: distil a teacher, or continue a checkpoint.

    The run can be stopped at any moment and resumed with --resume; Ctrl-C saves a checkpoint first.
    """
    from compactbio import recipes
    from compactbio.training import pretraining, run_folder

    loaded = recipes.load(recipe, **options.overrides(settings, steps=steps))
    try:
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
    address = run_folder.push(out, push) if push else None
    typer.echo(json.dumps({**asdict(result), "pushed": address}, indent=2) if as_json else _text(result))
    if address and not as_json:
        typer.echo(f"pushed to    {address}")


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
