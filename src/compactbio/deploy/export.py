"""Export to ONNX: checked against the original on the user's data, and int8 only where it keeps the score."""

import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCardData

from compactbio import cards
from compactbio.deploy.gate import Gate, gate
from compactbio.deploy.onnx_programs import Quantiser, program_of, save_program
from compactbio.errors import UserError, plain
from compactbio.evaluation import scoring
from compactbio.files import atomic_file, clean, filled_at_once, several, write_json, write_text
from compactbio.modeling import hardware, loading, onnx_files, runtimes
from compactbio.modeling.onnx import OnnxRuntime
from compactbio.modeling.packing import Row
from compactbio.modeling.runtimes import ONNX_FILES, Runtime
from compactbio.modeling.tokenizers import for_words
from compactbio.processes import processor
from compactbio.progress import Listener, listening
from compactbio.tasks import calibration_file
from compactbio.tasks.calibration import CALIBRATED, Calibration
from compactbio.tasks.data import Split
from compactbio.tasks.outcome import Outcome, interval_of
from compactbio.tasks.registry import TASKS, Logits
from compactbio.training import run_folder

FORMATS = {"onnx": "onnx-fp32", "onnx-int8": "onnx-int8"}
# What the logits of the two fp32 runtimes may differ by: the same sums in another order.
_TOLERANCE = 1e-3
_DATA_ROWS = 64  # at most: rows of the data to compare runtimes and the sensitivity of layers on
_RANDOM_ROWS = 16  # and random ones beside them
_LONGEST_RANDOM = 512  # tokens of a random row; a ModernBERT of 8,192 would take gigabytes for its attention


@dataclass(frozen=True)
class Figures:
    """Of one runtime: score and 95 % bootstrap interval on the data, in [0, 1], bytes of weights, tokens per second."""

    runtime: str
    score: float | None
    interval: tuple[float, float] | None
    bytes: int
    tokens_per_second: float


@dataclass(frozen=True)
class Exported:
    """The result of an export."""

    out: str  # the folder
    file: str  # the ONNX file in it
    task: str  # "ner", "relation" or "qa"
    metric: str  # the main score, of several data sets the mean
    protocol: str  # how was counted
    seed: int | None  # of the model's own training run, None where it was not made here
    original: Figures  # of PyTorch in fp32
    exported: Figures
    way: str  # how it was quantised, "" for fp32
    tried: tuple[tuple[str, float], ...]  # the ways that lost too much, with their scores
    max_loss: float  # what the score was allowed to lose, in percentage points
    data: dict[str, Any] | None  # name, hash and counts of what was scored
    machine: str  # what speed was measured on
    calibration: dict[str, Any] | None = None  # of its scores on the data, without the curves (see `tasks.calibration`)
    not_compared: tuple[str, ...] = ()  # types of mentions that no data set is labelled for
    scores: tuple[tuple[float, float], ...] = ()  # on each data set, in the order of `data`: original and exported


@dataclass(frozen=True)
class _Accepted:
    """An exported model that is good enough; the outcomes on each data set of the original and of it, and an int8
    one's logits of the data."""

    runtime: Runtime
    before: Sequence[Outcome]
    outcomes: Sequence[Outcome]
    logits: Sequence[Logits] | None = None
    way: str = ""
    tried: tuple[tuple[str, float], ...] = ()


def export(
    model: str | Path,
    format: str,
    out: str | Path,
    *,
    data: str | Path | Sequence[str | Path] | None = None,
    split: Split | None = None,
    max_loss: float = 0.3,
    listener: Listener | None = None,
) -> Exported:
    """Write a fine-tuned model as ONNX, with configuration, tokenizer and card; arguments as for `compactbio.export`.

    Int8 is kept only where the main score falls on each data set by at most `max_loss` percentage points (0.3); else
    weights are quantised by channel, then the layers that suffer most are left in fp32. Raises UserError where it
    falls more in every way, where the exported model differs from the original, and for whatever else the user can fix.
    """
    out, listener = Path(out), listening(listener)
    most = _checked(format, max_loss)
    source = loading.find(model)
    task = runtimes.task_of(source)
    named = [] if data is None else several(data, "data")
    if split is not None and not named:
        raise UserError("A split is of a data set: name the data, or leave the split out.", setting="split")
    if format == "onnx-int8" and not named:
        raise UserError(
            "Int8 can lose accuracy: name a data set of the model's kind on which it is scored against the original.",
            setting="data",
        )
    _check_out(out, source)
    scored = gate(source, task, named, split) if named else None
    not_compared = scored.not_compared() if scored else ()
    if not_compared:
        listener.note(f"Not compared, as no data set named is labelled for it: {', '.join(not_compared)}.")
    # ONNX Runtime computes on the CPU, and the speeds stand side by side.
    with TemporaryDirectory() as scratch, hardware.on_device("cpu"):
        original, accepted = _converted(source, task, format, scored, most, Path(scratch), listener)
        listener.note("Timing ...")
        name = FORMATS[format]
        file = Path(scratch) / ONNX_FILES[name]
        rows = runtimes.random_rows(source.config, task)
        speeds = runtimes.tokens_per_second({"original": original, name: accepted.runtime}, rows)
        weights = sum(path.stat().st_size for path in source.weights)
        fitted = _calibrated(source, task, scored, accepted, listener)
        result = Exported(
            out=str(out),
            file=file.name,
            task=task,
            metric=TASKS[task].metric,
            protocol=TASKS[task].protocol,
            seed=scoring.run_of(source.folder)[0].get("settings", {}).get("seed"),
            original=Figures("torch-fp32", *_mean(accepted.before), weights, speeds["original"]),
            exported=Figures(name, *_mean(accepted.outcomes), file.stat().st_size, speeds[name]),
            way=accepted.way,
            tried=accepted.tried,
            max_loss=most,
            data=scored.described() if scored else None,
            machine=f"{processor()}, {torch.get_num_threads()} threads",
            calibration=calibration_file.without_curves(fitted) if fitted else None,
            not_compared=not_compared,
            scores=tuple((a.main, b.main) for a, b in zip(accepted.before, accepted.outcomes, strict=True)),
        )
        _write(result, source, file, out)
        if fitted:
            calibration_file.keep(runtimes.find(out), name, fitted)
    return result


def _checked(format: str, max_loss: Any) -> float:
    """The most points that may be lost. Raises UserError for it and for an unknown format."""
    if format not in FORMATS:
        raise UserError(f"{format!r} is not a format to export to: take {' or '.join(FORMATS)}.", setting="format")
    if not isinstance(most := plain(max_loss), int | float) or not most >= 0:
        raise UserError(f"max_loss is {max_loss!r}; it must be a number, 0 or more.", setting="max_loss")
    return most


def _converted(
    source: loading.Source,
    task: str,
    format: str,
    scored: Gate | None,
    max_loss: float,
    folder: Path,
    listener: Listener,
) -> tuple[Runtime, _Accepted]:
    """The model in PyTorch's fp32, and its ONNX file in `folder`, equal to it or, as int8, good enough."""
    with loading.quiet():
        original = runtimes.load(source, "torch-fp32")
        torch_model = loading.load_for(source, task).eval()
    listener.note("Exporting ...")
    program = program_of(torch_model, task)
    save_program(program, folder / ONNX_FILES["onnx-fp32"])
    fp32 = OnnxRuntime(folder / ONNX_FILES["onnx-fp32"], task, "onnx-fp32", source.config)
    _check_equal(original, fp32, _rows(source, task, scored), source)
    before = scored.outcomes(scored.logits(original)) if scored else []
    if format == "onnx-int8" and scored:
        quantiser = Quantiser(program, torch_model, task, folder)
        return original, _quantised(quantiser, scored, fp32, before, max_loss, listener)
    return original, _Accepted(fp32, before, scored.outcomes(scored.logits(fp32)) if scored else [])


def _mean(outcomes: Sequence[Outcome]) -> tuple[float | None, tuple[float, float] | None]:
    """The mean of the main scores on all data sets and its interval; None without data."""
    return (fmean(one.main for one in outcomes), interval_of(*outcomes)) if outcomes else (None, None)


def _calibrated(
    source: loading.Source, task: str, scored: Gate | None, accepted: _Accepted, listener: Listener
) -> Calibration | None:
    """The calibration of an exported model: fitted to the data of the gate, or that of PyTorch; why there is none is
    reported."""
    if task not in CALIBRATED:
        return None
    if scored is None or accepted.logits is None:
        # Its logits are those of PyTorch except for rounding.
        found, note = calibration_file.find(source, "torch-fp32")
    else:
        try:
            found = scored.calibration(accepted.logits)
            note = None if found else "It finds nothing in the data, so its scores are not calibrated."
        except UserError as error:
            found, note = None, f"Its scores are not calibrated. {error}"
    if note:
        listener.note(note)
    return found


def _check_out(out: Path, source: loading.Source) -> None:
    if out.is_file():
        raise UserError(f"{out} is a file; name another folder.", setting="out")
    clean(out.resolve())
    if not _holds_something(out) or out.resolve() == source.folder.resolve():
        return
    if not any(record["model"] == source.digest for record in (onnx_files.exports(out) or {}).values()):
        raise UserError(
            f"{out}: the folder holds something other than an export of this model; name a new one.", setting="out"
        )


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _sample(rows: Sequence[Row]) -> list[Row]:
    return list(rows[:: max(1, math.ceil(len(rows) / _DATA_ROWS))])


def _rows(source: loading.Source, task: str, scored: Gate | None) -> list[Row]:
    """Rows of the task to compare logits on: some of the data, where there are any, and random ones of all lengths."""
    longest = min(scoring.settings_of(source, task).max_length, _LONGEST_RANDOM)
    return [*_sample(scored.rows if scored else []), *runtimes.random_rows(source.config, task, longest)[:_RANDOM_ROWS]]


def _check_equal(original: Runtime, exported: Runtime, rows: Sequence[Row], source: loading.Source) -> None:
    worst = max(float(np.abs(a - b).max()) for a, b in zip(original.logits(rows), exported.logits(rows), strict=True))
    if not worst <= _TOLERANCE:
        raise UserError(
            f"{source.name}: the exported model's logits differ from the original's by {worst:.2g}, so nothing was "
            "written; please report it."
        )


def _quantised(
    quantiser: Quantiser, scored: Gate, fp32: Runtime, before: list[Outcome], max_loss: float, listener: Listener
) -> _Accepted:
    """The first way of quantising whose score falls by at most `max_loss` points on each data set."""
    for outcome, part in zip(before, scored.parts, strict=True):
        if not outcome.main:
            raise UserError(
                f"{part.described['name']}: the model scores 0 on it, so it cannot show what int8 costs: name "
                "data of what it was trained for.",
                setting="data",
            )
    tried: list[tuple[str, float]] = []
    refused: list[tuple[float, str]] = []  # by the most that is lost on a data set
    for way, runtime in _ways(quantiser, fp32, scored, listener):
        logits = scored.logits(runtime)
        after = scored.outcomes(logits)
        shown = [f"{100 * a.main:.2f} of {100 * b.main:.2f}" for a, b in zip(after, before, strict=True)]
        names = [part.described["name"] for part in scored.parts]
        listener.note(f"int8, {way}: {', '.join(map(' '.join, zip(names, shown, strict=True)))}")
        losses = [b.main - a.main for a, b in zip(after, before, strict=True)]
        lost = max(losses)
        # The small margin keeps 0.3 from being refused for its last binary digit.
        if 100 * lost <= max_loss + 1e-9:
            return _Accepted(runtime, before, after, logits, way, tuple(tried))
        tried.append((way, fmean(one.main for one in after)))
        worst = losses.index(lost)
        refused.append((lost, f"{way}, has {shown[worst]} on {scored.parts[worst].described['name']}"))
    raise UserError(
        f"Int8 loses more than {max_loss:g} in every way that was tried: the best, {min(refused)[1]}; export to onnx "
        "(fp32), or allow a larger loss.",
        setting="max_loss",
    )


def _ways(quantiser: Quantiser, fp32: Runtime, scored: Gate, listener: Listener) -> Iterator[tuple[str, OnnxRuntime]]:
    """From the fastest to the most careful; each is made when it is asked for."""
    yield "by tensor", quantiser.make(per_channel=False)
    yield "by channel", quantiser.make(per_channel=True)
    listener.note("Looking for the layers that suffer most ...")
    order = quantiser.by_sensitivity(fp32, _sample(scored.rows))
    for count in range(1, len(order) // 2 + 1):
        left = order[:count]
        yield f"by channel, without {', '.join(left)}", quantiser.make(per_channel=True, without=left)


def _write(result: Exported, source: loading.Source, file: Path, out: Path) -> None:
    """Write the model and all that belongs to it into `out`: a new folder as a whole, else beside what is there."""
    in_place = out.resolve() == source.folder.resolve()
    if in_place or _holds_something(out):
        _write_into(out, result, source, file, out.resolve().name, in_place=in_place)
        return
    with filled_at_once(out) as folder:
        _write_into(folder, result, source, file, out.resolve().name, in_place=False)


def _write_into(
    folder: Path, result: Exported, source: loading.Source, file: Path, name: str, *, in_place: bool
) -> None:
    """Write an export that is called `name`; the record, which vouches for the model, last."""
    if not in_place:
        source.config.save_pretrained(folder)
        tokenizer = loading.tokenizer_of(source)
        (for_words(tokenizer) if result.task == "ner" else tokenizer).save_pretrained(folder)
        if (source.folder / run_folder.RUN).is_file():
            shutil.copyfile(source.folder / run_folder.RUN, folder / run_folder.RUN)
    with atomic_file(folder / result.file) as partial:
        shutil.copyfile(file, partial)
    record = {
        **asdict(replace(result, out=name)),
        "model": source.digest,
        "weights": onnx_files.weights_digest(source),
        "config": onnx_files.config_digest(source.config),
        "sha256": onnx_files.onnx_digest(folder / result.file),
    }
    models = {**(onnx_files.exports(folder) or {}), result.file: record}
    if not in_place:
        public, tags = source.public_name(), ["biomedical", "compactbio", "onnx"]
        base = public.partition("@")[0] if "/" in public else None
        data = ModelCardData(library_name="onnx", tags=tags, base_model=base)
        write_text(folder / "README.md", cards.render("exported", data, name=name, source=public, exports=models))
    write_json(folder / onnx_files.RECORD, {"model": source.digest, "exports": models})
