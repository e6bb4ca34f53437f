"""`compactbio annotate`: files of texts in, one file with entities out."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from compactbio.annotate import batch, run_units
    from compactbio.documents import Document

EXAMPLE = """\
Examples:

compactbio annotate tagger-int8 pubmed/*.xml.gz --out entities.jsonl

compactbio annotate Disease=ncbi Chemical=chem notes/ --out entities.parquet

echo 'Aspirin for lung cancer.' | compactbio annotate tagger - --out -
"""


class Format(StrEnum):
    jsonl = "jsonl"
    parquet = "parquet"
    bioc = "bioc"
    pubtator = "pubtator"
    brat = "brat"


def annotate(
    model: Annotated[
        str, typer.Argument(help="A fine-tuned NER model, or TYPE=MODEL to name its mentions.", show_default=False)
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Files, folders, patterns, - for standard input; TYPE=MODEL adds a model.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file to write; - is standard output.", show_default=False)],
    format: Annotated[
        Format | None, typer.Option(help="By default as the name of --out shows.", show_default=False)
    ] = None,
    input_format: options.TextsFormat = None,
    text_field: Annotated[
        str | None, typer.Option(help="The field of JSON lines or Parquet that holds the text.", show_default=False)
    ] = None,
    min_score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Leave out entities with a lower score.")] = 0.0,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the annotations that the input has.")] = False,
    runtime: options.RuntimeChoice = options.Runtime.auto,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default one per GPU, or one per core.", show_default=False)
    ] = None,
    device: options.DeviceChoice = options.Device.auto,
    on_cluster: Annotated[
        bool, typer.Option("--cluster", help="Run on the Ray cluster of $RAY_ADDRESS, or a local one.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Find entities in PubMed XML, PubTator, BioC, BRAT, JSON lines, Parquet or plain text (a document a line).

    Standard input and .txt files are plain text unless they hold XML, JSON or PubTator, or --input-format says so. Of
    PubMed records the newest of each PMID is annotated, and none that the NLM has withdrawn.

    A run that was stopped goes on where it was when the same command is run again. Documents that cannot be read are
    set aside with their reason in OUT.failed.jsonl, or on standard error. The exit status is 0 where any document was
    annotated, 2 where none was.
    """
    from rich.console import Console

    options.use(device)
    from compactbio.annotate import batch
    from compactbio.errors import UserError
    from compactbio.progress import Reporter

    chosen, read_as = format.value if format else None, input_format.value if input_format else None
    if str(out) == "-" and chosen not in (None, "jsonl"):
        raise UserError(f"Standard output takes jsonl alone, not {chosen}: name a file with --out.")
    models = [model, *(one for one in inputs if _is_model(one))]
    given = [one for one in inputs if not _is_model(one)]
    try:
        with Reporter(Console(stderr=True)) as reporter, _on_disk(given) as files:
            if str(out) == "-":
                _print_lines(
                    batch.stream(
                        models,
                        files,
                        input_format=read_as,
                        text_field=text_field,
                        min_score=min_score,
                        keep=keep,
                        runtime=runtime.value,
                        workers=workers or 1,
                        listener=reporter,
                    )
                )
                return
            found = batch.annotate(
                models,
                files,
                out,
                format=chosen,
                input_format=read_as,
                text_field=text_field,
                min_score=min_score,
                keep=keep,
                runtime=runtime.value,
                workers=workers,
                on_cluster=on_cluster,
                listener=reporter,
            )
    except KeyboardInterrupt:
        typer.echo("Stopped; finished parts are kept. Run the same command again to go on.", err=True)
        raise typer.Exit(130) from None
    typer.echo(json.dumps(asdict(found), indent=2) if as_json else _text(found))


def _is_model(word: str) -> bool:
    name, separator, model = word.partition("=")
    return bool(separator and name and model) and not Path(word).exists()


@contextmanager
def _on_disk(inputs: list[str]) -> Iterator[list[str]]:
    """The inputs, with standard input as a file."""
    if "-" not in inputs:
        yield inputs
        return
    with TemporaryDirectory() as folder:
        place = Path(folder) / "stdin"
        with place.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        yield [str(place) if one == "-" else one for one in inputs]


def _print_lines(found: "Iterator[Document | run_units.Failure]") -> None:
    from compactbio.annotate.run_units import Failure, none_annotated
    from compactbio.formats.json_lines import serialise

    written = failed = 0
    first = None
    for one in found:
        if isinstance(one, Failure):
            failed, first = failed + 1, first or one
            typer.echo(f"set aside: {' '.join(filter(None, (one.source, one.place)))}: {one.reason}", err=True)
        else:
            written += 1
            # As bytes: JSON lines are UTF-8, whatever the terminal is set to.
            typer.echo(serialise(one).encode(), nl=False)
    if not written:
        raise none_annotated(first)
    if failed:
        typer.echo(f"{failed:,} of {written + failed:,} documents were set aside.", err=True)


def _text(found: "batch.Annotated") -> str:
    entities = ", ".join(f"{kind or 'no type'} {count:,}" for kind, count in found.entities.items()) or "none"
    lines = [
        f"wrote        {found.out} ({found.format}, {found.state})",
        f"documents    {found.documents:,}",
        f"entities     {entities}",
        f"models       {', '.join(f'{model} on {runtime}' for model, runtime in found.runtimes.items())}",
    ]
    if found.updated or found.deleted:
        lines.append(f"passed over  {found.updated:,} older records of a PMID, {found.deleted:,} withdrawn ones")
    if found.failed:
        lines.append(f"set aside    {found.failed:,}, see {found.out}.failed.jsonl")
    return "\n".join(lines)
