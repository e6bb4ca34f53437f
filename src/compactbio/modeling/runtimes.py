"""What computes a fine-tuned model's logits (PyTorch or ONNX Runtime), and the choice between them."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PretrainedConfig, PreTrainedModel

from compactbio.errors import UserError
from compactbio.files import read_json, value_digest, write_json
from compactbio.modeling import hardware, onnx
from compactbio.modeling.heads import ARCHITECTURES, AUTO
from compactbio.modeling.loading import Source, configured, load_for, quiet
from compactbio.modeling.onnx import OnnxRuntime
from compactbio.modeling.packing import NO_LABEL, Row
from compactbio.modeling.prediction import predict

TORCH = ("torch-fp32", "torch-bf16")
# The files that `export` writes.
ONNX_FILES = {name: files[0] for name, files in onnx.FILES.items()}
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
        self._tokens = hardware.tokens() if hardware.uses_gpu() else _TORCH_TOKENS

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
        source = configured(name, onnx.patterns(wanted))
    if not source.weights and not available(source):
        others = onnx.others(source)
        hint = (
            f"rename {others[0]} to model.onnx where it is the model"
            if others
            else "name a folder that finetune or export wrote"
        )
        raise UserError(
            f"{name}: it has neither weights for PyTorch nor an ONNX file of a known name "
            f"({', '.join(file for files in onnx.FILES.values() for file in files)}); {hint}."
        )
    return source


def _wanted(source: Source, runtime: str) -> tuple[str, ...]:
    """The runtimes whose files may be needed."""
    if runtime in onnx.FILES:
        return (runtime,)
    exported = not source.weights or onnx.exports(source.folder)
    return tuple(onnx.FILES) if exported and runtime not in TORCH else ()


def task_of(source: Source) -> str:
    """The task of a model's head. Raises UserError for a model without one."""
    architecture = (source.config.architectures or ["model without a head"])[0]
    for task, ending in ARCHITECTURES.items():
        if architecture.endswith(ending):
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
    return found + [name for name in onnx.FILES if _counts(source, name, beside=beside)]


def _counts(source: Source, name: str, *, beside: bool) -> bool:
    path = onnx.find(source, name)
    return path is not None and (not beside or onnx.origin(source, path) == "own")


def digest(source: Source, name: str) -> str:
    """A fingerprint of what the runtime `name` reads of a source."""
    path = onnx.find(source, name) if name in onnx.FILES else None
    return onnx.digest(source, path) if path else source.digest


def load(source: Source, name: str, threads: int | None = None) -> Runtime:
    """A source's model on the runtime `name`; `threads` are the processor's own number by default.

    Raises UserError where the source has no weights for it, they cannot be read, or an ONNX file is not of the weights
    beside it.
    """
    if name not in NAMES:
        raise UserError(f"{name!r} is not a runtime: take auto, fastest or one of {', '.join(NAMES)}.")
    task = task_of(source)
    if name in onnx.FILES:
        return _load_onnx(source, task, name, threads)
    if not source.weights:
        raise UserError(f"{source.name}: it is an exported model; take one of {', '.join(available(source))}.")
    if threads is not None:
        torch.set_num_threads(threads)
    return _load_torch(source, task, name)


def _load_torch(source: Source, task: str, name: str) -> TorchRuntime:
    with quiet():
        model = load_for(source, AUTO[task])
    return TorchRuntime(model.to("cuda" if hardware.uses_gpu() else "cpu"), task, name)


def _load_onnx(source: Source, task: str, name: str, threads: int | None) -> OnnxRuntime:
    path = onnx.find(source, name)
    if path is None:
        raise UserError(
            f"{source.name}: there is no {onnx.FILES[name][0]} in it for {name}; make one with compactbio "
            f"export, or take one of {', '.join(available(source))}."
        )
    origin = onnx.origin(source, path)
    if origin == "stale":
        raise UserError(
            f"{path}: it was exported from other weights than those beside it; export the model again, or take one of "
            f"{', '.join(available(source))}."
        )
    if origin == "unclear":
        raise UserError(
            f"{path}: {onnx.RECORD} beside it cannot be read, so nobody knows whether it is of the weights "
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


_ROUNDS = 3


def chosen(source: Source, runtime: str, threads: int | None = None) -> str:
    """The name of the runtime that `runtime` means: its own name, the rule's for "auto", or `fastest` of it.

    The rule, the same on every machine: what the folder was exported for (its int8 export, else its fp32 one), else
    PyTorch in fp32. ONNX files made elsewhere are taken where there are no weights, fp32 first.
    """
    if runtime == "fastest":
        return fastest(source, threads)
    if runtime != "auto":
        return runtime
    names = available(source)
    made = onnx.exports(source.folder) or {}
    exported = [name for name in ("onnx-int8", "onnx-fp32") if name in names and ONNX_FILES[name] in made]
    return (exported or names)[0]


def fastest(source: Source, threads: int | None = None) -> str:
    """The name of the fastest runtime that a source has weights for.

    Measured on random sentences the first time, and read from the cache afterwards: $COMPACTBIO_CACHE, or
    `compactbio` in $XDG_CACHE_HOME or ~/.cache. Another model, processor, number of threads or version of a runtime is
    measured again.
    """
    names = available(source)
    if len(names) == 1:
        return names[0]
    place = cache() / "runtimes" / f"{value_digest(_conditions(source, names, threads))}.json"
    try:
        known: str = read_json(place)["fastest"]
    except (OSError, ValueError, KeyError, TypeError):
        known = ""
    if known in names:
        return known
    loaded = {name: load(source, name, threads) for name in names}
    longest = min([SENTENCE, *(one.longest for one in loaded.values() if one.longest)])
    speeds = time_in_turns(loaded, random_rows(source.config, task_of(source), longest))
    best = max(speeds, key=lambda name: speeds[name])
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, {"fastest": best, "tokens_per_second": speeds})
    except OSError:
        # A home that cannot be written to costs the measurement each time, nothing else.
        pass
    return best


def time_in_turns(loaded: Mapping[str, Runtime], rows: Sequence[Row]) -> dict[str, float]:
    """Tokens per second of each runtime on the same rows: the best of a few rounds, in turns."""
    best = dict.fromkeys(loaded, float("inf"))
    for turn in range(_ROUNDS + 1):
        for name, runtime in loaded.items():
            began = time.perf_counter()
            runtime.logits(rows)
            # The first turn chooses kernels and takes memory.
            if turn:
                best[name] = min(best[name], time.perf_counter() - began)
    return {name: sum(map(len, rows)) / seconds for name, seconds in best.items()}


def cache() -> Path:
    """The folder for what can be made again."""
    named = os.environ.get("COMPACTBIO_CACHE")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "compactbio"


def _conditions(source: Source, names: Sequence[str], threads: int | None) -> dict[str, Any]:
    try:
        onnx = version("onnxruntime")
    except PackageNotFoundError:
        onnx = ""
    return {
        "models": {name: digest(source, name) for name in names},
        "threads": threads or torch.get_num_threads(),
        "processor": hardware.processor(),
        "device": hardware.device(),
        "torch": torch.__version__,
        "onnxruntime": onnx,
    }


# Sessions of the parent process, kept: to let one go is to wait for its threads.
_inherited: list[Runtime] = []


class Portable:
    """The runtime `name` of a source on a device of `hardware.DEVICES` and `threads`.

    A copy shares it, a pickle holds where it was loaded from.

    A process forked from the one that loaded it has none of the parent's threads, and would wait for them for ever:
    there it runs on one thread, in a session of its own.
    """

    def __init__(self, source: Source, name: str, threads: int | None, device: str = "auto") -> None:
        self._source = replace(source, folder=source.folder.absolute())
        self._threads, self._device = threads, device
        with hardware.on_device(device):
            self._runtime = load(source, name, threads)
            self._on_gpu = name in TORCH and hardware.uses_gpu()
        self._process = os.getpid()

    @property
    def name(self) -> str:
        """See Runtime."""
        return self._runtime.name

    @property
    def longest(self) -> int | None:
        """See Runtime."""
        return self._runtime.longest

    def logits(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """See Runtime. Raises UserError in a forked process for a model on a GPU, which CUDA does not allow."""
        if os.getpid() != self._process:
            self._settle()
        return self._runtime.logits(rows)

    def _settle(self) -> None:
        if self._on_gpu:
            raise UserError(
                "A model on a GPU cannot be used in a forked process: start processes by "
                'multiprocessing.set_start_method("spawn").'
            )
        torch.set_num_threads(1)
        if self.name in ONNX_FILES:
            _inherited.append(self._runtime)
            self._runtime = load(self._source, self.name, 1)
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._source, self.name, self._threads, self._device)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
