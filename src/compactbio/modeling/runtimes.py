"""Runtimes: what computes a fine-tuned model's logits (PyTorch or ONNX Runtime), and the choice between them."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from platformdirs import user_cache_path
from transformers import PretrainedConfig, PreTrainedModel

from compactbio.errors import UserError
from compactbio.files import read_json, value_digest, write_json
from compactbio.modeling import families, hardware, onnx_files
from compactbio.modeling.loading import Source, configured, load_for, quiet
from compactbio.modeling.onnx import OnnxRuntime
from compactbio.modeling.packing import ARCHITECTURES, NO_LABEL, Row, predict

TORCH = ("torch-fp32", "torch-bf16")
# The files that `export` writes.
ONNX_FILES = {name: files[0] for name, files in onnx_files.FILES.items()}
NAMES = (*TORCH, *ONNX_FILES)
# Tokens per batch: more do not fit the processor's caches.
_TORCH_TOKENS = 2048
SENTENCE = 63  # tokens of a long sentence
_RANDOM_ROWS = 48
_ROUNDS = 3  # of timing
# Logits that differ by more of the largest one are of other weights. Int8 of these was off by at most 0.12.
_OTHER_WEIGHTS = {"onnx-fp32": 0.05, "onnx-int8": 0.4}


class Runtime(Protocol):
    """Computes logits; `name` is one of NAMES, `longest` the most tokens of a row, None for the model's own limit."""

    name: str
    longest: int | None

    def logits(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """The logits of each row, in the rows' order: (length, labels), (classes,) or, for QA, (length, 2)."""
        ...


class TorchRuntime:
    """A PyTorch model on packed rows; in bf16 its weights are converted too."""

    longest: int | None = None

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
    """Find a model, by folder or hub name, with weights that `runtime` (one of NAMES, "auto" or "fastest") may use.

    Raises UserError where there is no model, or no weights at all.
    """
    source = configured(name)
    exported = runtime not in TORCH and (not source.weights or onnx_files.exports(source.folder))
    wanted = [runtime] if runtime in onnx_files.FILES else list(onnx_files.FILES) if exported else []
    if wanted and not Path(name).exists():
        # ONNX files of the hub, and the weights in files beside them, are fetched only where they may be used.
        source = configured(name, [f"{file}*" for each in wanted for file in onnx_files.FILES[each]])
    present = [path for each in onnx_files.FILES if (path := onnx_files.find(source, each))]
    if not source.weights and present and not available(source):
        raise UserError(_replaced(present[0]))
    if not source.weights and not present:
        others = onnx_files.others(source)
        hint = (
            f"rename {others[0]} to model.onnx where it is the model"
            if others
            else "name a folder with a fine-tuned or exported model"
        )
        raise UserError(
            f"{source.name}: it has neither weights for PyTorch nor an ONNX file of a known name "
            f"({', '.join(file for files in onnx_files.FILES.values() for file in files)}); {hint}."
        )
    return source


def task_of(source: Source) -> str:
    """The task of a model's head. Raises UserError for a model without one."""
    architecture = (source.config.architectures or ["model without a head"])[0]
    for task, ending in ARCHITECTURES.items():
        if architecture.endswith(ending):
            return task
    raise UserError(
        f"{source.name} is a {architecture}, which has no head for a task; fine-tune it first with "
        "`compactbio finetune`."
    )


def available(source: Source) -> list[str]:
    """The runtimes that can compute this model on this machine, in the order of NAMES.

    Where there are weights, an ONNX file counts only if `export` made it from them; without, not if it is in the place
    of another that `export` made.
    """
    beside = bool(source.weights)
    found = ["torch-fp32"] * beside + ["torch-bf16"] * (beside and hardware.precision("auto") == "bf16")
    for name in onnx_files.FILES:
        if path := onnx_files.find(source, name):
            origin = onnx_files.origin(source, path)
            if origin == "own" or not (beside or origin == "replaced"):
                found.append(name)
    return found


def digest(source: Source, name: str) -> str:
    """A fingerprint of what the runtime `name` reads of a source."""
    path = onnx_files.find(source, name) if name in onnx_files.FILES else None
    if path is None:
        return source.digest
    files = [path, *(path.parent / weights for weights in onnx_files.external(path)), source.folder / "config.json"]
    return value_digest([onnx_files.onnx_digest(file) for file in files if file.is_file()])


def load(source: Source, name: str, threads: int | None = None) -> Runtime:
    """A source's model on the runtime `name`, one of NAMES; `threads` are as many as the cores by default.

    Raises UserError where the source has no weights for it, they cannot be read, or an ONNX file is not of the weights
    beside it.
    """
    if name not in NAMES:
        raise UserError(
            f"{name!r} is not a runtime: take auto, fastest or one of {', '.join(NAMES)}.", setting="runtime"
        )
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
        model = load_for(source, task)
    return TorchRuntime(model.to(hardware.torch_device()), task, name)


def _load_onnx(source: Source, task: str, name: str, threads: int | None) -> OnnxRuntime:
    path = onnx_files.find(source, name)
    if path is None:
        raise _unusable(source, f"{source.name}: it has no {ONNX_FILES[name]} for {name}; export the model")
    if (origin := onnx_files.origin(source, path)) == "stale":
        raise _unusable(
            source,
            f"{path}: it was exported from other weights, or with another configuration, than those beside it; export "
            "it again",
        )
    if origin == "replaced":
        raise _unusable(source, _replaced(path).removesuffix("."))
    if origin == "unclear":
        raise _unusable(
            source,
            f"{path}: {onnx_files.RECORD} beside it cannot be read, so it is unknown whether it is of the weights "
            "beside it; export it again",
        )
    loaded = OnnxRuntime(path, task, name, source.config, threads)
    if origin == "elsewhere" and source.weights:
        _check_of_weights(source, task, path, loaded)
    return loaded


def _replaced(path: Path) -> str:
    return (
        f"{path}: it is not the file that {onnx_files.RECORD} describes under this name; export the model again, or "
        f"delete {onnx_files.RECORD} to take the file as it is."
    )


def _unusable(source: Source, sentence: str) -> UserError:
    return UserError(f"{sentence}, or take one of {', '.join(available(source))}.", setting="runtime")


def _check_of_weights(source: Source, task: str, path: Path, loaded: OnnxRuntime) -> None:
    """Refuse a file from elsewhere whose logits are not those of the weights beside it."""
    rows = random_rows(source.config, task, loaded.longest or SENTENCE)[:4]
    wanted = _load_torch(source, task, "torch-fp32").logits(rows)
    found = loaded.logits(rows)
    worst = max(float(np.abs(a - b).max()) for a, b in zip(wanted, found, strict=True))
    # Weights in half precision differ by far less, other weights by far more.
    if not worst <= _OTHER_WEIGHTS[loaded.name] * max(float(np.abs(logits).max()) for logits in wanted):
        raise _unusable(
            source,
            f"{path}: it gives other logits than the weights beside it (by up to {worst:.2g}); export the model again",
        )


def random_rows(config: PretrainedConfig, task: str, longest: int = SENTENCE) -> list[Row]:
    """Rows of random tokens, at most `longest` each, the same ones at every call; for QA of two segments."""
    generator = np.random.default_rng(0)
    most = min(families.longest(config), longest)
    lengths = generator.integers(min(8, most), most, _RANDOM_ROWS, endpoint=True)
    rows = []
    for n in lengths:
        ids = generator.integers(0, int(config.vocab_size), n)
        if config.pad_token_id is not None:
            ids[ids == config.pad_token_id] = (config.pad_token_id + 1) % config.vocab_size
        segments = (np.arange(n) >= n // 3).astype(np.int64) if task == "qa" else None
        rows.append(Row(ids, np.full(n, NO_LABEL), segments))
    return rows


def chosen(source: Source, runtime: str, threads: int | None = None) -> str:
    """The name of the runtime that `runtime` means.

    "auto" is the same on every machine: what the folder was exported for (its int8 export, else its fp32 one), else
    PyTorch in fp32. ONNX files made elsewhere are taken where there are no weights, fp32 first. "fastest" is that of
    `fastest`, any other name itself.
    """
    if runtime == "fastest":
        return fastest(source, threads)
    if runtime != "auto":
        return runtime
    names = available(source)
    made = onnx_files.exports(source.folder) or {}
    exported = [name for name in ("onnx-int8", "onnx-fp32") if name in names and ONNX_FILES[name] in made]
    return (exported or names)[0]


def fastest(source: Source, threads: int | None = None) -> str:
    """The name of the fastest runtime that a source has weights for.

    Measured on random sentences the first time, and read from the cache (see `cache`) afterwards. Another model,
    processor, number of threads or version of a runtime is measured again.
    """
    names = available(source)
    if len(names) == 1:
        return names[0]
    place = cache() / "runtimes" / f"{value_digest(_conditions(source, names, threads))}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        if (known := read_json(place)["fastest"]) in names:
            return str(known)
    loaded = {name: load(source, name, threads) for name in names}
    longest = min([SENTENCE, *(runtime.longest for runtime in loaded.values() if runtime.longest)])
    speeds = tokens_per_second(loaded, random_rows(source.config, task_of(source), longest))
    best = max(speeds, key=lambda name: speeds[name])
    # Where the cache cannot be written, each call measures again.
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, {"fastest": best, "tokens_per_second": speeds})
    return best


def tokens_per_second(loaded: Mapping[str, Runtime], rows: Sequence[Row]) -> dict[str, float]:
    """The speed of each runtime on the same rows: the best of a few rounds, in turns."""
    calls = {name: partial(runtime.logits, rows) for name, runtime in loaded.items()}
    seconds = hardware.time_in_turns(calls, _ROUNDS)
    return {name: sum(map(len, rows)) / min(taken) for name, taken in seconds.items()}


def cache() -> Path:
    """The folder of measurements that are kept: $COMPACTBIO_CACHE, or the user's cache folder on this system."""
    named = os.environ.get("COMPACTBIO_CACHE")
    return Path(named) if named else user_cache_path("compactbio")


def _conditions(source: Source, names: Sequence[str], threads: int | None) -> dict[str, Any]:
    try:
        onnxruntime = version("onnxruntime")
    except PackageNotFoundError:
        onnxruntime = ""
    return {
        "models": {name: digest(source, name) for name in names},
        **hardware.machine(),
        "threads": threads or torch.get_num_threads(),
        "onnxruntime": onnxruntime,
    }


# Sessions of the parent process, kept alive: deleting one waits for its threads, which a forked process lacks.
_inherited: list[Runtime] = []


class Portable:
    """A runtime that can be sent to other processes: a copy shares it, a pickle loads it again from its source.

    A process forked from the one that loaded it has none of the parent's threads, and would wait for them for ever:
    there it runs on one thread, in a session of its own.
    """

    def __init__(self, source: Source, name: str, threads: int | None, device: str = "auto") -> None:
        self._source = replace(source, folder=source.folder.absolute())
        self._threads, self._device = threads, device
        with hardware.on_device(device):
            self._runtime = load(source, name, threads)
            self._on_gpu = name in TORCH and hardware.uses_gpu()
        self.name, self.longest = name, self._runtime.longest
        self._process = os.getpid()

    def logits(self, rows: Sequence[Row]) -> list[NDArray[np.float32]]:
        """See Runtime. Raises UserError in a forked process for a model on a GPU, which CUDA does not allow."""
        if os.getpid() != self._process:
            self._reload_in_fork()
        return self._runtime.logits(rows)

    def _reload_in_fork(self) -> None:
        if self._on_gpu:
            raise UserError(
                "A model on a GPU cannot be used in a forked process: start processes with "
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
