"""Which runtime a model is run on: by a rule, or the fastest on this machine, measured once, briefly, and kept."""

import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from compactbio.deploy import onnx_files, runtimes
from compactbio.deploy.runtimes import Runtime
from compactbio.records import atomic, hashes
from compactbio.tasks.rows import Row
from compactbio.training import hardware
from compactbio.training.loading import Source

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
    names = runtimes.available(source)
    made = onnx_files.exports(source.folder) or {}
    exported = [name for name in ("onnx-int8", "onnx-fp32") if name in names and runtimes.ONNX_FILES[name] in made]
    return (exported or names)[0]


def fastest(source: Source, threads: int | None = None) -> str:
    """The name of the fastest runtime that a source has weights for.

    Measured on random sentences the first time, and read from the cache afterwards: $COMPACTBIO_CACHE, or
    `compactbio` in $XDG_CACHE_HOME or ~/.cache. Another model, processor, number of threads or version of a runtime is
    measured again.
    """
    names = runtimes.available(source)
    if len(names) == 1:
        return names[0]
    place = cache() / "runtimes" / f"{hashes.of_value(_conditions(source, names, threads))}.json"
    try:
        known: str = atomic.read_json(place)["fastest"]
    except (OSError, ValueError, KeyError, TypeError):
        known = ""
    if known in names:
        return known
    loaded = {name: runtimes.load(source, name, threads) for name in names}
    longest = min([runtimes.SENTENCE, *(one.longest for one in loaded.values() if one.longest)])
    speeds = time_in_turns(loaded, runtimes.random_rows(source.config, runtimes.task_of(source), longest))
    best = max(speeds, key=lambda name: speeds[name])
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(place, {"fastest": best, "tokens_per_second": speeds})
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
        "models": {name: runtimes.digest(source, name) for name in names},
        "threads": threads or torch.get_num_threads(),
        "processor": hardware.processor(),
        "device": hardware.device(),
        "torch": torch.__version__,
        "onnxruntime": onnx,
    }
