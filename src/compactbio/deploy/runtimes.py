"""What computes a fine-tuned model's logits: PyTorch in fp32 or bf16, ONNX Runtime in fp32 or int8, behind one face."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedModel

from compactbio.deploy import onnx_files
from compactbio.deploy.onnx_runtime import OnnxRuntime
from compactbio.errors import UserError
from compactbio.tasks.rows import NO_LABEL, Row
from compactbio.training import hardware
from compactbio.training.adapters import TASKS
from compactbio.training.loading import Source, configured, load_for, quiet
from compactbio.training.predicting import predict

TORCH = ("torch-fp32", "torch-bf16")
# The files that `export` writes.
ONNX_FILES = {name: files[0] for name, files in onnx_files.FILES.items()}
NAMES = (*TORCH, *ONNX_FILES)
# Tokens a batch: more would only leave the processor's caches.
_TORCH_TOKENS = 2048
SENTENCE = 63  # tokens that a long sentence has
_ROWS = 48  # random ones
_OTHER = 0.05  # of the largest logit: what the logits of the same weights do not differ by


class Runtime(Protocol):
    """Computes logits; `name` is one of NAMES, `longest` the tokens that a row may have, None for the model's own."""

    @property
    def name(self) -> str: ...

    @property
    def longest(self) -> int | None: ...

    def logits(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """The logits of each row, in the rows' order: (length, labels), (classes,) or, for QA, (length, 2)."""
        ...


class TorchRuntime:
    """A PyTorch model on packed rows; in bf16 its weights are rounded too."""

    longest = None

    def __init__(self, model: PreTrainedModel, task: str, name: str) -> None:
        self.name = name
        self._task = task
        self._model = model.to(torch.bfloat16 if name == "torch-bf16" else torch.float32).eval()
        self._tokens = hardware.tokens() if torch.cuda.is_available() else _TORCH_TOKENS

    def logits(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """See Runtime."""
        with torch.inference_mode():
            return predict(self._model, self._task, rows, tokens=self._tokens, bf16=False)


def find(name: str | Path, runtime: str = "auto") -> Source:
    """Find a model with weights that the runtime `runtime` (one of NAMES, "auto" or "fastest") may take.

    Raises UserError where there is no model, or no weights at all.
    """
    source = configured(name)
    if not Path(name).exists() and (wanted := _wanted(source, runtime)):
        # ONNX files of the hub, and the weights beside them, are fetched only where they may be used.
        source = configured(name, onnx_files.patterns(wanted))
    if not source.weights and not available(source):
        others = onnx_files.others(source)
        hint = (
            f"rename {others[0]} to model.onnx where it is the model"
            if others
            else "name a folder that finetune or export wrote"
        )
        raise UserError(
            f"{name}: it has neither weights for PyTorch nor an ONNX file of a known name "
            f"({', '.join(file for files in onnx_files.FILES.values() for file in files)}); {hint}."
        )
    return source


def _wanted(source: Source, runtime: str) -> tuple[str, ...]:
    """The runtimes whose files may be needed."""
    if runtime in onnx_files.FILES:
        return (runtime,)
    exported = not source.weights or onnx_files.exports(source.folder)
    return tuple(onnx_files.FILES) if exported and runtime not in TORCH else ()


def task_of(source: Source) -> str:
    """The task of a model's head. Raises UserError for a model without one."""
    architecture = (source.config.architectures or ["model without a head"])[0]
    for task, kind in TASKS.items():
        if architecture.endswith(kind.architecture):
            return task
    raise UserError(
        f"{source.name} is a {architecture}, which annotates nothing; fine-tune it first: "
        f"compactbio finetune DATA --model {source.name} --out DIR."
    )


def available(source: Source) -> list[str]:
    """The runtimes that compute this very model on this machine, in the order of NAMES.

    Where there are weights, an ONNX file counts only if `export` made it from them.
    """
    beside = bool(source.weights)
    found = ["torch-fp32"] * beside + ["torch-bf16"] * (beside and hardware.precision("auto") == "bf16")
    return found + [name for name in onnx_files.FILES if _counts(source, name, beside=beside)]


def _counts(source: Source, name: str, *, beside: bool) -> bool:
    path = onnx_files.find(source, name)
    return path is not None and (not beside or onnx_files.origin(source, path) == "own")


def digest(source: Source, name: str) -> str:
    """A fingerprint of what the runtime `name` reads of a source."""
    path = onnx_files.find(source, name) if name in onnx_files.FILES else None
    return onnx_files.digest(source, path) if path else source.digest


def load(source: Source, name: str, threads: int | None = None) -> Runtime:
    """A source's model on the runtime `name`; `threads` are the processor's own number by default.

    Raises UserError where the source has no weights for it, they cannot be read, or an ONNX file is not of the weights
    beside it.
    """
    if name not in NAMES:
        raise UserError(f"{name!r} is not a runtime: take auto, fastest or one of {', '.join(NAMES)}.")
    task = task_of(source)
    if name in onnx_files.FILES:
        return _load_onnx(source, task, name, threads)
    if not source.weights:
        raise UserError(f"{source.name}: it is an exported model; take one of {', '.join(available(source))}.")
    if threads is not None:
        torch.set_num_threads(threads)
    return _load_torch(source, task, name)


def _load_torch(source: Source, task: str, name: str) -> TorchRuntime:
    with quiet():
        model = load_for(source, TASKS[task].auto)
    return TorchRuntime(model.to("cuda" if torch.cuda.is_available() else "cpu"), task, name)


def _load_onnx(source: Source, task: str, name: str, threads: int | None) -> OnnxRuntime:
    path = onnx_files.find(source, name)
    if path is None:
        raise UserError(
            f"{source.name}: there is no {onnx_files.FILES[name][0]} in it for {name}; make one with compactbio "
            f"export, or take one of {', '.join(available(source))}."
        )
    origin = onnx_files.origin(source, path)
    if origin == "stale":
        raise UserError(
            f"{path}: it was exported from other weights than those beside it; export the model again, or take one of "
            f"{', '.join(available(source))}."
        )
    if origin == "unclear":
        raise UserError(
            f"{path}: {onnx_files.RECORD} beside it cannot be read, so nobody knows whether it is of the weights "
            f"beside it; export the model again, or take one of {', '.join(available(source))}."
        )
    loaded = OnnxRuntime(path, task, name, source.config, threads)
    if origin == "elsewhere" and source.weights and name == "onnx-fp32":
        _check_of_weights(source, task, path, loaded)
    return loaded


def _check_of_weights(source: Source, task: str, path: Path, loaded: OnnxRuntime) -> None:
    """Refuse a file from elsewhere that computes something else than the weights beside it."""
    rows = random_rows(source.config, task, loaded.longest or SENTENCE)[:4]
    wanted = _load_torch(source, task, "torch-fp32").logits(rows)
    found = loaded.logits(rows)
    worst = max(float(np.abs(a - b).max()) for a, b in zip(wanted, found, strict=True))
    # Weights in half precision stay far below it, other weights far above.
    if not worst <= _OTHER * max(float(np.abs(one).max()) for one in wanted):
        raise UserError(
            f"{path}: it gives other logits than the weights beside it (by up to {worst:.2g}); export the model "
            f"again, or take one of {', '.join(available(source))}."
        )


def random_rows(config: PretrainedConfig, task: str, longest: int = SENTENCE) -> list[Row]:
    """Rows of random pieces of at most `longest` tokens, the same ones at every call; for QA of two segments."""
    generator = np.random.default_rng(0)
    most = min(int(config.max_position_embeddings), longest)
    lengths = generator.integers(min(8, most), most, _ROWS, endpoint=True)
    return [_random_row(generator.integers(0, int(config.vocab_size), n), segments=task == "qa") for n in lengths]


def _random_row(ids: NDArray[np.int64], *, segments: bool) -> Row:
    types = (np.arange(len(ids)) >= len(ids) // 3).astype(np.int64)
    return Row(ids, np.full(len(ids), NO_LABEL), types if segments else None)
