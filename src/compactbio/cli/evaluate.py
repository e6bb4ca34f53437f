"""`compactbio evaluate`: a data set and a model or a file of predictions in, scores with an interval out; `compactbio
compare`: models x data sets x seeds in, the table with intervals, tests, plots and a page out."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from compactbio.cli import options

if TYPE_CHECKING:
    from compactbio.evaluation.scoring import Evaluation

EVALUATE_EXAMPLE = """\
Examples:

compactbio evaluate NER/NCBI-disease --model tagger --write-predictions predicted.tsv

compactbio evaluate corpus.pubtator --model OWNER/TAGGER --untyped

compactbio evaluate QA/test-7b.json --model reader --gold QA/7B_golden.json

compactbio evaluate NER/NCBI-disease --predictions predicted.tsv
"""
COMPARE_EXAMPLE = """\
Example of a SUITE.yaml:

models: {biobert: dmis-lab/biobert-base-cased-v1.2, distil: models/distil-biobert}

data: {NCBI-disease: NER/NCBI-disease, GAD: RE/GAD, BioASQ: {train: t.json, test: u.json, gold: g.json}}

seeds: [0, 1, 2]

teacher: biobert

Also: baseline (by default the first model), settings (as finetune --set), train_on (train or train+devel); for one data
set: devel, task, format, seeds, settings, unlabelled (texts for models with teachers); for one model: path and teachers
(models before it that teach it the task).

Then: compactbio compare SUITE.yaml --out table
"""


def evaluate(
    context: typer.Context,
    data: Annotated[str, typer.Argument(help="A folder, whose test split is scored, or one file.")],
    model: Annotated[str | None, typer.Option(help="Folder or hub name of a fine-tuned model.")] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Score another system's predictions instead: a file in a format of the data, or a BRAT folder."
        ),
    ] = None,
    task: options.TaskChoice = None,
    format: options.DataFormatChoice = None,
    protocol: Annotated[
        Literal["word", "published"],
        typer.Option(help="NER: over words, as conlleval; or over pieces, as the published script."),
    ] = "word",
    split: Annotated[
        Literal["devel", "test"] | None,
        typer.Option(
            help="The split of a data folder, or of a file that was split to train on; by default test, and devel with "
            "--calibrate."
        ),
    ] = None,
    gold: Annotated[Path | None, typer.Option(help="BioASQ's golden file, for a test split without answers.")] = None,
    untyped: Annotated[
        bool, typer.Option("--untyped", help="NER: compare the extents of mentions alone, whatever their types.")
    ] = False,
    negative: options.Negative = None,
    scheme: options.SchemeChoice = None,
    write_predictions: Annotated[
        Path | None,
        typer.Option(
            help="Write what the model predicted: mentions (.tsv, .conll, .pubtator, .xml or .jsonl), a class per "
            "line, or a BioASQ submission."
        ),
    ] = None,
    mistakes: Annotated[int, typer.Option(min=0, help="Show this many of the most frequent errors.")] = 0,
    device: options.DeviceChoice = "auto",
    precision: options.PrecisionChoice = "auto",
    tokens_per_batch: options.TokensPerBatch = None,
    runtime: Annotated[
        options.Runtime | None,
        typer.Option(
            help="Score what annotates: an exported model, or weights rounded to bf16; auto, fastest as in annotate."
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Fit the model's scores to these data, by default devel, and keep that in its folder, for annotate.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole result as JSON.")] = False,
) -> None:
    """Score a model, or another system's predictions, on a data set with a 95 % bootstrap interval.

    The score is added to the card of a model that `compactbio finetune` made. A folder that holds only an exported
    model is scored by that.
    """
    from compactbio import api
    from compactbio.errors import UserError
    from compactbio.evaluation import predictions as files
    from compactbio.files import locked

    if (model is None) == (predictions is None):
        raise UserError("Name either a model (--model) or a file of predictions (--predictions) to score.")
    if calibrate and model is None:
        raise UserError("Only a model's scores can be calibrated: leave --calibrate out.")
    if write_predictions:
        if model is None:
            raise UserError("Only a model's predictions can be written: leave --write-predictions out.")
        files.check_writable(write_predictions, data, model, task, format, untyped=untyped)
        context.with_resource(locked(write_predictions))
    with options.stopping("nothing was scored."):
        result = api.evaluate(
            data,
            model,
            predictions=predictions,
            task=task,
            format=format,
            protocol=protocol,
            split=split,
            gold=gold,
            untyped=untyped,
            negative=negative,
            scheme=scheme,
            runtime=runtime,
            device=device,
            precision=precision,
            tokens_per_batch=tokens_per_batch,
            calibrate=calibrate,
        )
    typer.echo(json.dumps(result.record(), ensure_ascii=False) if as_json else _text(result, mistakes))
    if write_predictions:
        files.write(result, write_predictions)


def _text(result: "Evaluation", mistakes: int) -> str:
    record = result.record()
    low, high = record["interval"]
    data, found = record["data"], record["model"]
    metric = record["metric"]
    shown = metric.upper() if metric in ("f1", "mrr") else metric
    counted = ", ".join(f"{value:,} {key}" for key, value in data.items() if isinstance(value, int))
    lines = [
        f"{shown} {100 * record['scores'][metric]:.2f}  (95 % interval {100 * low:.2f} to {100 * high:.2f}, "
        f"bootstrap over {len(record['units']):,} {record['unit']}s)",
        "  ".join(f"{key.replace('_', ' ')} {100 * value:.2f}" for key, value in record["scores"].items()),
        f"model {found['name']} ({found['runtime']})" if "runtime" in found else f"predictions {found['name']}",
        f"protocol {record['protocol']}; one run" + (f", seed {record['seed']}" if record["seed"] is not None else ""),
        f"data {data['name']}, {data['split']}: {counted}; SHA-256 {data['sha256'][:16]}",
        *record["notes"],
    ]
    if len(record["per_type"]) > 1:
        lines += ["", *_types(record["per_type"])]
    if mistakes:
        lines += ["", *_mistakes(record["mistakes"][:mistakes])]
    return "\n".join(lines)


def _types(per_type: dict[str, dict[str, float]]) -> list[str]:
    width = max(map(len, per_type))
    return [
        f"{kind:{width}}  precision {100 * s['precision']:6.2f}  recall {100 * s['recall']:6.2f}  "
        f"F1 {100 * s['f1']:6.2f}  support {s['support']:,.0f}"
        for kind, s in per_type.items()
    ]


def _mistakes(found: list[dict[str, Any]]) -> list[str]:
    return [
        f"{m['count']:4d}  {m['kind']:12}  gold: {m['gold'] or '-'}  predicted: {m['predicted'] or '-'}\n"
        f"{'':20}{m['context']}"
        for m in found
    ]


def compare(
    suite: Annotated[Path, typer.Argument(help="Models, data sets and seeds, as YAML.")],
    out: Annotated[Path, typer.Option(help="The folder of all runs and of the report (index.html).")],
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Fine-tune and score nothing; report on what has been run.")
    ] = False,
    device: options.DeviceChoice = "auto",
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
            device=device,
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
