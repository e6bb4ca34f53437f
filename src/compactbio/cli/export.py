"""`compactbio export`: a fine-tuned model for ONNX Runtime, int8 only where it keeps the score."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from compactbio.deploy.export import Exported, Figures

EXAMPLE = "Example: compactbio export tagger --format onnx-int8 --data NER/NCBI-disease --out tagger-int8"


Format = Literal["onnx", "onnx-int8"]


Part = Literal["train", "devel", "test"]


def export(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="A fine-tuned model: folder or hub name.", show_default=False)],
    out: Annotated[Path, typer.Option(help="The folder to write; may be the model's own.", show_default=False)],
    format: Annotated[Format, typer.Option(help="fp32, or int8 weights and activations.")] = "onnx",
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="A data set to score it on beside the original; int8 needs one. Repeatable: the loss is limited on "
            "each.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        Part | None, typer.Option(help="By default devel where there is one, else test.", show_default=False)
    ] = None,
    max_loss: Annotated[
        float, typer.Option(min=0.0, help="What the main score may lose, in hundredths, before int8 is refused.")
    ] = 0.3,
    as_json: options.AsJson = False,
) -> None:
    """Export a fine-tuned model to ONNX, checked against the original.

    Int8 is scored on the data; where it loses too much, weights are quantised by channel, then the layers that suffer
    most are left in fp32; where it still loses too much, it is refused.
    """
    from compactbio.deploy.export import export as run
    from compactbio.files import locked

    context.with_resource(locked(out))
    with options.reporting("nothing was written") as reporter:
        found = run(model, format, out, data=data or None, split=split, max_loss=max_loss, listener=reporter)
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else _text(found))


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
    lines += [f"lost too much {way}: {100 * score:.2f}" for way, score in found.tried]
    return "\n".join([*lines, f"machine      {found.machine}"])


def _figures(one: "Figures", found: "Exported") -> str:
    score = "" if one.score is None else f"{found.metric} {100 * one.score:.2f}, "
    return f"{one.runtime:13}{score}{one.bytes / 1e6:.1f} MB, {one.tokens_per_second:,.0f} tokens/s"
