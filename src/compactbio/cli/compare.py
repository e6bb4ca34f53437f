"""`compactbio compare`: models x data sets x seeds in, the table with intervals, tests, plots and a page out."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from compactbio.comparison.suite import Suite
    from compactbio.comparison.table import Profile

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
    context: typer.Context,
    suite: Annotated[Path, typer.Argument(help="Models, data sets and seeds, as YAML.", show_default=False)],
    out: Annotated[
        Path, typer.Option(help="The folder of all runs and of the report (index.html).", show_default=False)
    ],
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Fine-tune and score nothing; report on what has been run.")
    ] = False,
    precision: options.PrecisionChoice = "auto",
    tokens_per_batch: options.TokensPerBatch = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
) -> None:
    """Fine-tune and score every model on every data set, and write the table of the paper from it.

    What was run is kept and not run again; a run that fails is reported, and tried again the next time.
    """
    from compactbio.comparison import report
    from compactbio.comparison import runs as running
    from compactbio.comparison.rendering import markdown
    from compactbio.comparison.suite import load
    from compactbio.comparison.table import build
    from compactbio.files import locked

    loaded = load(suite)
    context.with_resource(locked(out))
    running.check(loaded, out)
    report.check()
    try:
        if report_only:
            runs = running.kept_runs(loaded, out)
        else:
            runs = running.run_suite(
                loaded, out, precision=precision, tokens_per_batch=tokens_per_batch, report=_report
            )
    except (running.Stopped, KeyboardInterrupt):
        _report(f"Stopped; what was run is kept. Resume with: compactbio {shlex.join(sys.argv[1:])}")
        raise typer.Exit(130) from None
    table = build(runs, loaded.baseline, loaded.teacher)
    try:
        profiles = _profiles(loaded, out)
    except KeyboardInterrupt:
        _report("Stopped while speed was measured; what was run is kept. Resume with --report-only.")
        raise typer.Exit(130) from None
    report.write(suite.stem, table, runs, profiles, out)
    typer.echo(json.dumps(asdict(table), indent=2) + "\n" if as_json else markdown(table), nl=False)
    _report(f"Report: {out / 'index.html'} (also table.md, table.tex, table.json, plots/)")
    if not any(run.state == "done" for run in runs):
        _report("No run is done, so there is nothing to compare yet.")
        raise typer.Exit(2)


def _report(line: str) -> None:
    typer.echo(line, err=True)


def _profiles(suite: "Suite", out: Path) -> "dict[str, Profile]":
    """Size and speed of each model, measured on this machine once and kept in `profiles.json`."""
    from compactbio.deploy.profile import profile
    from compactbio.files import read_json, write_json
    from compactbio.modeling import loading

    kept = out / "profiles.json"
    digests = {name: loading.find(where).digest for name, where in suite.models.items()}
    try:
        known = read_json(kept)
    except (OSError, ValueError):
        known = None
    if isinstance(known, dict) and known.get("digests") == digests and "profiles" in known:
        return known["profiles"]  # type: ignore[no-any-return]
    places = list(dict.fromkeys(suite.models.values()))
    _report(f"Measuring the speed of {len(places)} models ...")
    measured = dict(zip(places, profile(places), strict=True))
    profiles: dict[str, Profile] = {
        name: {
            "parameters": measured[place].encoder_parameters,
            "tokens_per_second": measured[place].throughput_tokens_per_second,
            "latency_ms": measured[place].latency_ms,
        }
        for name, place in suite.models.items()
    }
    write_json(kept, {"digests": digests, "profiles": profiles})
    return profiles
