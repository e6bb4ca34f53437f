"""Export to ONNX: checked against the original on the user's data, and int8 only where it keeps the score."""

import io
import logging
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass, replace
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedModel

from compactbio.deploy import export_card
from compactbio.documents import Document
from compactbio.errors import UserError
from compactbio.evaluation import scoring
from compactbio.files import atomic_file, write_json, write_text
from compactbio.modeling import hardware, loading, onnx, runtimes
from compactbio.modeling.families import check_family, depth
from compactbio.modeling.onnx import OnnxRuntime
from compactbio.modeling.packing import Row
from compactbio.modeling.runtimes import ONNX_FILES, Runtime
from compactbio.progress import Listener, Silent
from compactbio.tasks import data as datasets
from compactbio.tasks.data import Split
from compactbio.tasks.outcome import Outcome
from compactbio.tasks.registry import TASKS
from compactbio.training import run_folder

FORMATS = {"onnx": "onnx-fp32", "onnx-int8": "onnx-int8"}
# What the logits of the two fp32 runtimes may differ by: another order of the same sums.
_TOLERANCE = 1e-3
_SAMPLE = 64  # rows of the data by which runtimes are compared, and the sensitivity of a layer is told
_MADE = 16  # random ones beside them
_EMBEDDINGS = "embeddings"


@dataclass(frozen=True)
class Figures:
    """Of one runtime: the score on the data, in [0, 1], the bytes of its weights, and tokens a second."""

    runtime: str
    score: float | None
    bytes: int
    tokens_per_second: float


@dataclass(frozen=True)
class Exported:
    """What came of an export: the figures of the original (PyTorch, fp32) and of the exported model.

    `way` says how it was quantised, "" for fp32; `tried` are the ways that lost too much, with their scores.
    `data` names and hashes what was scored.
    """

    out: str
    file: str
    task: str
    metric: str
    original: Figures
    exported: Figures
    way: str
    tried: tuple[tuple[str, float], ...]
    max_loss: float
    data: dict[str, Any] | None
    machine: str


@dataclass(frozen=True)
class _Scored:
    """Data made ready for a model, to be scored again and again."""

    task: str
    documents: Sequence[Document]
    encoded: Any
    labels: Sequence[str]
    golden: Mapping[str, Any] | None
    described: dict[str, Any]
    config: PretrainedConfig

    def score(self, runtime: Runtime) -> float:
        kind = TASKS[self.task]
        logits = runtime.logits(self.encoded.rows)
        predictions = kind.decode(self.documents, self.encoded, logits, self.labels, self.config)
        found: Outcome = kind.outcome(
            self.documents, self.encoded, predictions, self.labels, kind.protocol, self.golden
        )
        return found.main


@dataclass(frozen=True)
class _Made:
    """An exported model that is good enough; the fields as in Exported."""

    way: str
    tried: tuple[tuple[str, float], ...]
    runtime: Runtime
    score: float | None


def export(
    model: str | Path,
    format: str,
    out: str | Path,
    *,
    data: str | Path | None = None,
    split: Split | None = None,
    max_loss: float = 0.3,
    listener: Listener | None = None,
) -> Exported:
    """Write a fine-tuned model as ONNX into the folder `out`, with configuration, tokenizer and card.

    `format` is "onnx", or "onnx-int8": int8 weights, activations quantised as they come. Int8 is scored on `data`, by
    default its devel split where there is one, and is kept only where the main score falls by at most `max_loss`
    hundredths (0.3: 0.003); else weights are quantised by channel, then the layers that suffer most stay in fp32.
    `out` may be the model's own folder. Raises UserError where int8 loses more in every way, where the exported model
    differs from the original, and for whatever else the user can fix.
    """
    out = Path(out)
    if format not in FORMATS:
        raise UserError(f"{format!r} is no format to export to: take {' or '.join(FORMATS)}.")
    source = loading.find(model)
    task = runtimes.task_of(source)
    if format == "onnx-int8" and data is None:
        raise UserError(
            "Int8 can lose accuracy without a word: name a data set of the model's kind with --data, by which it is "
            "scored against the original."
        )
    _check_out(out, source)
    listener = listener or Silent()
    scored = _scored(source, task, data, split) if data is not None else None
    name = FORMATS[format]
    with loading.quiet():
        original = runtimes.load(source, "torch-fp32")
        torch_model = loading.load_for(source, TASKS[task].auto).eval()
    with TemporaryDirectory() as scratch:
        place = Path(scratch)
        listener.note("Exporting ...")
        program = program_of(torch_model, task)
        save_program(program, place / ONNX_FILES["onnx-fp32"])
        plain = OnnxRuntime(place / ONNX_FILES["onnx-fp32"], task, "onnx-fp32", source.config)
        rows = _rows(source, task, scored)
        _check_equal(original, plain, rows, source)
        score = scored.score(original) if scored else None
        if format == "onnx-int8" and scored is not None and score is not None:
            made = _gate(Quantiser(program, torch_model, task, place), scored, plain, score, max_loss, listener)
        else:
            made = _Made("", (), plain, scored.score(plain) if scored else None)
        file = ONNX_FILES[name]
        listener.note("Timing ...")
        sentences = runtimes.random_rows(source.config, task)
        speeds = runtimes.time_in_turns({"original": original, name: made.runtime}, sentences)
        weights = sum(path.stat().st_size for path in source.weights)
        result = Exported(
            out=str(out),
            file=file,
            task=task,
            metric=TASKS[task].metric,
            original=Figures("torch-fp32", score, weights, speeds["original"]),
            exported=Figures(name, made.score, (place / file).stat().st_size, speeds[name]),
            way=made.way,
            tried=made.tried,
            max_loss=max_loss,
            data=scored.described if scored else None,
            machine=f"{hardware.processor()}, {torch.get_num_threads()} threads",
        )
        _write(result, source, place / file, out)
    return result


def _check_out(out: Path, source: loading.Source) -> None:
    if out.is_file():
        raise UserError(f"{out}: a file is in the way; name another folder for --out.")
    own = out.is_dir() and out.resolve() == source.folder.resolve()
    if own or not out.is_dir() or not any(out.iterdir()):
        return
    made = onnx.exports(out) or {}
    if not any(one["model"] == source.digest for one in made.values()):
        raise UserError(f"{out}: the folder holds something else than an export of this model; name a new one.")


def _scored(source: loading.Source, task: str, data: str | Path, split: Split | None) -> _Scored:
    found = datasets.find(data, task)
    chosen: Split = split or ("devel" if "devel" in found.files and not found.single else "test")
    documents = found.read(chosen, whole=True)
    kind = TASKS[task]
    labels = kind.check(source.config, source.name, documents)
    encoded = kind.encode(documents, loading.tokenizer_of(source), labels, scoring.settings_of(source, task))
    golden = found.golden() if chosen == "test" else None
    described = scoring.described(found, chosen, documents, whole=found.single)
    return _Scored(task, documents, encoded, labels, golden, described, source.config)


@contextmanager
def _silently() -> Iterator[None]:
    """Within it the exporters' talk, of which nothing is the user's to mend, is dropped."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def program_of(model: PreTrainedModel, task: str) -> Any:
    """The model as an `onnx_ir.Model`, of batches and rows of any size."""
    try:
        from transformers.exporters import OnnxConfig, OnnxExporter
    except ImportError:
        raise UserError("The exporter is not installed: pip install 'compactbio[onnx]'.") from None
    # An odd number below the positions, so that neither is taken for a constant of the model.
    length = min(17, int(model.config.max_position_embeddings) // 2 + 1)
    ids = torch.ones((3, length), dtype=torch.long)
    mask = torch.ones_like(ids)
    mask[1, length // 2 :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if task == "qa" and _takes_segments(model):
        inputs["token_type_ids"] = (torch.arange(length) > length // 2).long().expand(3, length).clone()
    try:
        with _silently():
            return OnnxExporter().export(model, inputs, config=OnnxConfig(dynamic=True)).program
    except ImportError as error:
        raise UserError(f"The exporter is not installed: pip install 'compactbio[onnx]' ({error}).") from None


def _takes_segments(model: PreTrainedModel) -> bool:
    """Whether token types make a difference to a model: DistilBERT has none, some BERTs but one."""
    taken = signature(type(model).forward).parameters
    return "token_type_ids" in taken and int(getattr(model.config, "type_vocab_size", 0) or 0) > 1


def save_program(program: Any, path: Path) -> None:
    """Write a program, weights and all, to one file."""
    import onnx_ir

    onnx_ir.save(program, str(path))


def _rows(source: loading.Source, task: str, scored: _Scored | None) -> list[Row]:
    """Rows of the task to compare logits on: some of the data, where there are any, and random ones of all lengths."""
    own = list(scored.encoded.rows) if scored else []
    made = runtimes.random_rows(source.config, task, scoring.settings_of(source, task).max_length)
    return [*own[:: max(1, len(own) // _SAMPLE)], *made[:_MADE]]


def _check_equal(original: Runtime, exported: Runtime, rows: Sequence[Row], source: loading.Source) -> None:
    worst = max(float(np.abs(a - b).max()) for a, b in zip(original.logits(rows), exported.logits(rows), strict=True))
    if not worst <= _TOLERANCE:
        raise UserError(
            f"{source.name}: the exported model's logits differ from the original's by {worst:.2g}, so nothing was "
            "written; please report it."
        )


@dataclass(frozen=True)
class Quantiser:
    """Makes int8 models of a program, in `folder`."""

    program: Any
    model: PreTrainedModel
    task: str
    folder: Path

    def groups(self) -> list[str]:
        """What can stay in fp32: the embeddings, each layer."""
        return [_EMBEDDINGS, *(f"layer {i}" for i in range(depth(self.model)))]

    def make(self, *, per_channel: bool, only: str | None = None, without: Sequence[str] = ()) -> OnnxRuntime:
        """An int8 model of all groups, or of one `only`, or of all `without` some."""
        from transformers.exporters import ExportFormat, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

        nodes = self._nodes()
        config = OnnxRuntimeDynamicConfig(
            per_channel=per_channel,
            nodes_to_quantize=None if only is None else [name for name, group in nodes.items() if group == only],
            nodes_to_exclude=[name for name, group in nodes.items() if group in without] or None,
        )
        with _silently():
            made = OnnxRuntimeQuantizer(config).quantize(self.program, {}, ExportFormat.ONNX)
        path = self.folder / ONNX_FILES["onnx-int8"]
        save_program(made, path)
        return OnnxRuntime(path, self.task, "onnx-int8", self.model.config)

    def _nodes(self) -> dict[str, str]:
        """The group of every node that can be quantised, by the path of its module."""
        path = check_family(self.model.config).layers
        found = {}
        for node in self.program.graph:
            if node.op_type not in ("MatMul", "Gemm", "Gather"):
                continue
            scope = node.metadata_props.get("pkg.torch.onnx.name_scopes", "")
            _, inside, rest = scope.rpartition(f"{path}.")
            number = rest.split(".")[0].split("'")[0]
            if inside and number.isdigit():
                found[node.name] = f"layer {number}"
            elif "embeddings" in scope:
                found[node.name] = _EMBEDDINGS
        return found


def _gate(
    quantiser: Quantiser, scored: _Scored, plain: Runtime, score: float, max_loss: float, listener: Listener
) -> _Made:
    """The first way of quantising whose score falls by at most `max_loss` hundredths."""
    tried: list[tuple[str, float]] = []
    for way, runtime in _ways(quantiser, plain, scored, listener):
        after = scored.score(runtime)
        listener.note(f"int8, {way}: {100 * after:.2f} of {100 * score:.2f}")
        # A hair is given, so that 0.3 is not refused for its last binary digit.
        if 100 * (score - after) <= max_loss + 1e-9:
            return _Made(way, tuple(tried), runtime, after)
        tried.append((way, after))
    best, value = max(tried, key=lambda one: one[1])
    raise UserError(
        f"Int8 loses more than {max_loss:g} in every way that was tried: the best, {best}, has {100 * value:.2f} of "
        f"{100 * score:.2f}; export to onnx (fp32), or allow more with --max-loss."
    )


def _ways(
    quantiser: Quantiser, plain: Runtime, scored: _Scored, listener: Listener
) -> Iterator[tuple[str, OnnxRuntime]]:
    """From the fastest to the most careful; each is made when it is asked for."""
    yield "by tensor", quantiser.make(per_channel=False)
    yield "by channel", quantiser.make(per_channel=True)
    listener.note("Looking for the layers that suffer most ...")
    order = _by_sensitivity(quantiser, plain, scored.encoded.rows)
    for count in range(1, len(order) // 2 + 1):
        left = order[:count]
        yield f"by channel, without {', '.join(left)}", quantiser.make(per_channel=True, without=left)


def _by_sensitivity(quantiser: Quantiser, plain: Runtime, rows: Sequence[Row]) -> list[str]:
    """The groups by what quantising each alone does to the logits of some rows, the worst first."""
    some = list(rows[:: max(1, len(rows) // _SAMPLE)])
    wanted = plain.logits(some)
    errors = {group: _error(wanted, quantiser.make(per_channel=True, only=group).logits(some))
              for group in quantiser.groups()}  # fmt: skip
    return sorted(errors, key=lambda group: -errors[group])


def _error(wanted: Sequence[NDArray[np.float32]], found: Sequence[NDArray[np.float32]]) -> float:
    return float(sum(((a - b) ** 2).sum() for a, b in zip(wanted, found, strict=True)))


def _write(result: Exported, source: loading.Source, file: Path, out: Path) -> None:
    """Put the model and all that goes with it into `out`; the record, which vouches for the model, last."""
    out.mkdir(parents=True, exist_ok=True)
    own = out.resolve() == source.folder.resolve()
    if not own:
        source.config.save_pretrained(out)
        loading.tokenizer_of(source).save_pretrained(out)
        if (source.folder / run_folder.RUN).is_file():
            shutil.copyfile(source.folder / run_folder.RUN, out / run_folder.RUN)
    with atomic_file(out / result.file) as partial:
        shutil.copyfile(file, partial)
    made = {
        **asdict(replace(result, out=out.name)),
        "model": source.digest,
        "weights": onnx.weights_digest(source),
        "sha256": onnx.onnx_digest(out / result.file),
    }
    models = {**(onnx.exports(out) or {}), result.file: made}
    if not own:
        write_text(out / "README.md", export_card.write(out.resolve().name, source, models))
    write_json(out / onnx.RECORD, {"model": source.digest, "exports": models})
