"""Models scored, compared, and exported for use."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from compactbio.comparison import report, runs
from compactbio.comparison.speeds import profiles_of
from compactbio.comparison.suite import load
from compactbio.comparison.table import Table, build
from compactbio.deploy import export as exporting
from compactbio.errors import UserError
from compactbio.evaluation import predictions as prediction_files
from compactbio.evaluation import scoring
from compactbio.evaluation.scoring import Evaluation
from compactbio.files import locked, output, several
from compactbio.modeling import hardware, loading
from compactbio.processes import end_as_import
from compactbio.progress import Listener, listening
from compactbio.tasks.data import Split


def evaluate(
    data: str | Path | Mapping[str, str | Path],
    model: str | Path | None = None,
    *,
    predictions: str | Path | None = None,
    task: str | None = None,
    format: str | None = None,
    protocol: str = "word",
    split: Split | None = None,
    gold: str | Path | None = None,
    untyped: bool = False,
    negative: str | Sequence[str] | None = None,
    scheme: str | None = None,
    runtime: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    calibrate: bool = False,
) -> Evaluation:
    """Score a fine-tuned model, or another system's predictions, as the field does.

    The score of a model that `finetune` made is added to its card, unless a runtime is named or scores are calibrated.

    Args:
        data: A folder, whose test split is scored, or one file.
        model: The model to score; give either this or `predictions`.
        predictions: A file of another system's predictions, in a format of the data.
        task: "ner", "relation" or "qa"; by default recognised from the data.
        format: One of `formats.READABLE`; by default recognised.
        protocol: For entities: "word", as conlleval; or "published", over word pieces as the published script.
        split: "test" or "devel"; by default "test", and "devel" where scores are calibrated.
        gold: BioASQ's golden file, for a test split without answers.
        untyped: For entities: compare the extents alone.
        negative: For relations: the classes of no relation; by default known by their names.
        scheme: For relations: "chemprot" or "labels"; by default known by the labels.
        runtime: As for `Annotator.from_pretrained`; by default PyTorch in `precision`, or what an exported model has.
        device: As for `distil`.
        precision: As for `distil`.
        tokens_per_batch: As for `distil`.
        calibrate: Fit the model's scores to the split, which it was not trained on, and keep that in its folder:
            annotators of it then give scores that say how often they are right, and know which keep a precision.

    Returns:
        The scores, with protocol, interval, counts and the digests of data and model; `record()` gives them as JSON.

    Examples:
        >>> from compactbio import evaluate
        >>> evaluation = evaluate("NER/made", "tagger")
        >>> evaluation.outcome.main > 0.9, evaluation.record()["protocol"]
        (True, 'word')
    """
    if (model is None) == (predictions is None):
        raise UserError("Name either a model or a file of predictions.")
    if calibrate and model is None:
        raise UserError("Only a model's scores can be calibrated: leave calibrate out.")
    if split not in (None, "test", "devel"):
        raise UserError(f"{split!r} is not a split to score: take test or devel.", setting="split")
    asked: dict[str, Any] = {
        "task": task,
        "format": format,
        "protocol": protocol,
        "split": split,
        "gold": gold,
        "untyped": untyped,
        "negative": None if negative is None else list(map(str, several(negative, "negative"))),
        "scheme": scheme,
    }
    if predictions is not None:
        if isinstance(data, Mapping):
            raise UserError("Predictions are scored on a data folder or file, not on a mapping of files.")
        usual = {"runtime": None, "tokens_per_batch": None, "device": "auto", "precision": "auto"}
        given = {"runtime": runtime, "tokens_per_batch": tokens_per_batch, "device": device, "precision": precision}
        for name in (name for name, value in given.items() if value != usual[name]):
            raise UserError(f"Predictions are not computed, so {name} has no effect: leave it out.", setting=name)
        return prediction_files.evaluate_file(predictions, data, **asked)
    assert model is not None
    with hardware.on_device(device):
        found = scoring.evaluate(
            model,
            data,
            **asked,
            runtime=runtime,
            precision=precision,
            tokens_per_batch=tokens_per_batch,
            calibrate=calibrate,
        )
    # The card is of the weights, not of an export, which `export` describes.
    of_weights = runtime is None and not calibrate and loading.configured(model).weights
    return _on_card(model, found) if of_weights else found


def _on_card(model: str | Path, found: Evaluation) -> Evaluation:
    """Add a score to the model's card, where it has one of ours; where that fails, the result says so."""
    try:
        scoring.add_to_card(model, found)
    except (OSError, UserError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        note = f"The score was not added to the model's card: {reason}."
        return replace(found, outcome=replace(found.outcome, notes=(*found.outcome.notes, note)))
    return found


def compare(
    suite: str | Path,
    out: str | Path,
    *,
    report_only: bool = False,
    device: str = "auto",
    precision: str = "auto",
    tokens_per_batch: int | None = None,
    workers: int = 1,
    listener: Listener | None = None,
) -> Table:
    """Fine-tune and score every model on every data set of a suite, and write the tables and the page of it.

    What was run is kept and not run again; a run that fails is named in the report and tried again the next time.

    Args:
        suite: A YAML file of models, data sets and seeds (see `comparison.suite.Suite`).
        out: The folder of all runs and of the report (index.html, table.md, table.tex, table.json).
        report_only: Fine-tune and score nothing; report on what has been run.
        device: As for `distil`.
        precision: As for `distil`.
        tokens_per_batch: As for `distil`.
        workers: Runs side by side, each in a process of its own; they share the cores, and the GPUs in turn.
        listener: Receives a note on each run (see `progress.Listener`).

    Returns:
        The table: means, deviations, intervals and paired tests.

    Raises:
        KeyboardInterrupt: Where a signal stops it; the same call resumes.

    Examples:
        >>> from compactbio import compare
        >>> table = compare("suite.yaml", "comparison")
        >>> row = table.row("start", "made")
        >>> row.runs, row.mean >= 0
        (1, True)
    """
    end_as_import()
    loaded, out, listener = load(suite), output(out), listening(listener)
    if report_only and not out.is_dir():
        raise UserError(f"{out}: nothing was compared here yet, so there is nothing to report on.", setting="out")
    with locked(out), hardware.on_device(device):
        runs.check(loaded, out)
        report.check()
        try:
            done = (
                runs.kept_runs(loaded, out)
                if report_only
                else runs.run_suite(
                    loaded,
                    out,
                    precision=precision,
                    tokens_per_batch=tokens_per_batch,
                    workers=workers,
                    report=listener.note,
                )
            )
        except runs.Stopped:
            raise KeyboardInterrupt from None
        table = build(done, loaded.baseline, loaded.teacher)
        report.write(Path(suite).stem, table, done, profiles_of(loaded, done, out, listener.note), out)
    return table


def export(
    model: str | Path,
    out: str | Path,
    *,
    format: Literal["onnx", "onnx-int8"] = "onnx",
    data: str | Path | Sequence[str | Path] | None = None,
    split: Split | None = None,
    max_loss: float = 0.3,
    listener: Listener | None = None,
) -> exporting.Exported:
    """Write a fine-tuned model for ONNX Runtime, checked against the original.

    Args:
        model: The model, fine-tuned for a task.
        out: The folder to write; may be the model's own.
        format: "onnx" (fp32), or "onnx-int8" for int8 weights and activations.
        data: A data set of the model's kind, or several, on which both are scored; int8 needs one.
        split: The split to score on, none that the model was trained on; by default devel where it can be, else test.
        max_loss: What the main score may lose, in percentage points, before int8 is refused.
        listener: Receives the progress (see `progress.Listener`).

    Examples:
        >>> from compactbio import Annotator, export
        >>> export("tagger", "tagger-onnx").file
        'model.onnx'
        >>> len(Annotator.from_pretrained("tagger-onnx")("daily aspirin"))
        1
    """
    out = output(out)
    with locked(out):
        return exporting.export(model, format, out, data=data, split=split, max_loss=max_loss, listener=listener)
