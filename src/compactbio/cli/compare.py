"""`compactbio compare`: models x data sets x seeds in, the table with intervals, tests, plots and a page out."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from compactbio.cli import options

EXAMPLE = """\
Example of a SUITE.yaml:

models: {biobert: dmis-lab/biobert-base-cased-v1.2, distil: models/distil-biobert}

data: {NCBI-disease: NER/NCBI-disease, GAD: RE/GAD, BioASQ: {train: t.json, test: u.json, gold: g.json}}

seeds: [0, 1, 2]

teacher: biobert

Also: baseline (by default the first model), settings (as finetune --set), train_on (train or train+devel); and for one
data set: devel, task, seeds, settings.

Then: compactbio compare SUITE.yaml --out table
"""


def compare(
    suite: Annotated[Path, typer.Argument(help="Models, data sets and seeds, as YAML.")],
    out: Annotated[Path, typer.Option(help="The folder of all runs and of the report (index.html).")],
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Fine-tune and score nothing; report on what has been run.")
    ] = False,
    precision: options.PrecisionChoice = "auto",
    tokens_per_batch: options.TokensPerBatch = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Runs side by side, each in a process of its own.")
    ] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Fine-tune and score every model on every data set, and write the table of the paper from it.

    What was run is kept and not run again; a run that fails is reported, and tried again the next time.
    """
    from compactbio import api
    from compactbio.comparison.report import markdown

    again = f"what was run is kept. Resume with: compactbio {shlex.join(sys.argv[1:])}"
    with options.reporting(again) as reporter:
        table = api.compare(
            suite,
            out,
            report_only=report_only,
            precision=precision,
            tokens_per_batch=tokens_per_batch,
            workers=workers,
            listener=reporter,
        )
    typer.echo(json.dumps(asdict(table), indent=2) + "\n" if as_json else markdown(table), nl=False)
    typer.echo(f"Report: {out / 'index.html'} (also table.md, table.tex, table.json, plots/)", err=True)
    if not any(row.runs for row in table.rows):
        typer.echo("No run is done, so there is nothing to compare yet.", err=True)
        raise typer.Exit(2)
