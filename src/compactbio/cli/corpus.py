"""`compactbio corpus`: build a corpus of token rows, and show what one holds."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from compactbio.cli import options

app = typer.Typer(help="Make a corpus of token rows from citations, and show what one holds.", no_args_is_help=True)

_BUILD_EXAMPLE = (
    "Example: compactbio corpus build baseline/ updatefiles/ --tokenizer dmis-lab/biobert-base-cased-v1.2 "
    "--out corpora/pubmed --holdout 10000"
)
ManifestAsJson = Annotated[bool, typer.Option("--json", help="Print the manifest as JSON.")]


@app.command(epilog=_BUILD_EXAMPLE)
def build(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT",
            help="PubMed/MEDLINE XML, JSON lines, Parquet or plain text (a document per line), each also as .gz: "
            "files, folders or patterns.",
        ),
    ],
    tokenizer: Annotated[str, typer.Option(help="A tokenizer's folder, a vocab.txt, or a hub name.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    max_length: Annotated[int, typer.Option(help="Tokens per row, special ones included.")] = 256,
    overflow: Annotated[
        Literal["drop", "keep"], typer.Option(help="Tokens beyond the length: drop them, or keep them as further rows.")
    ] = "drop",
    holdout: Annotated[int, typer.Option(help="Rows to set aside for the held-out loss.")] = 0,
    exclude: Annotated[Path | None, typer.Option(help="A file of PMIDs to leave out, one per line.")] = None,
    require_abstract: Annotated[
        bool, typer.Option("--require-abstract", help="Drop citations that are a title only.")
    ] = False,
    published: Annotated[
        bool, typer.Option("--published", help="Titles without any square bracket, as the published corpus had them.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Processes; by default one per core.")] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first source that is damaged, instead of setting it aside.")
    ] = False,
    as_json: ManifestAsJson = False,
) -> None:
    """Build a corpus of token rows from citations.

    A PMID keeps its newest record, withdrawn ones are dropped, and every record left out is counted. A build that was
    stopped resumes when the same command is run again.
    """
    from compactbio import corpus

    with options.reporting(options.RUN_AGAIN) as reporter:
        manifest = corpus.build(
            inputs,
            out,
            tokenizer=tokenizer,
            max_length=max_length,
            overflow=overflow,
            holdout=holdout,
            exclude=exclude,
            require_abstract=require_abstract,
            published=published,
            workers=workers,
            strict=strict,
            listener=reporter,
        )
    _print(manifest, as_json)


@app.command(epilog="Example: compactbio corpus stats corpora/pubmed")
def stats(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A corpus.")], as_json: ManifestAsJson = False
) -> None:
    """Print what a corpus holds: sources, counts, rows, tokens, lengths."""
    from compactbio import corpus

    _print(corpus.manifest(folder), as_json)


def _print(manifest: dict[str, object], as_json: bool) -> None:
    from rich.console import Console

    from compactbio.corpus.reading import table

    if as_json:
        typer.echo(json.dumps(manifest, indent=2, ensure_ascii=False))
    else:
        Console().print(table(manifest))
