"""Which runtime is the fastest for a model on this machine: measured once, briefly, and kept."""

import os
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compactbio.deploy import runtimes
from compactbio.deploy.runtimes import Runtime
from compactbio.records import atomic, hashes
from compactbio.tasks.rows import NO_LABEL, Row
from compactbio.training import hardware
from compactbio.training.loading import Source

_ROWS, _ROUNDS = 48, 3


def fastest(source: Source, threads: int | None = None) -> str:
    """The name of the fastest runtime that a source has weights for.

    Measured on random sentences the first time, and read from the cache afterwards: $COMPACTBIO_CACHE, or
    `compactbio` in $XDG_CACHE_HOME or ~/.cache. Another model, processor, number of threads or version of a runtime is
    measured anew.
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
    speeds = time_in_turns(loaded, int(source.config.vocab_size))
    chosen = max(speeds, key=lambda name: speeds[name])
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_json(place, {"fastest": chosen, "tokens_per_second": speeds})
    except OSError:
        # A home that cannot be written to costs the measurement each time, nothing else.
        pass
    return chosen


def time_in_turns(loaded: Mapping[str, Runtime], vocabulary: int) -> dict[str, float]:
    """Tokens a second of each runtime on the same random sentences: the best of a few rounds, in turns."""
    rows = random_rows(vocabulary)
    best = dict.fromkeys(loaded, float("inf"))
    for turn in range(_ROUNDS + 1):
        for name, runtime in loaded.items():
            began = time.perf_counter()
            runtime.logits(rows)
            # The first turn chooses kernels and takes memory.
            if turn:
                best[name] = min(best[name], time.perf_counter() - began)
    return {name: sum(map(len, rows)) / seconds for name, seconds in best.items()}


def random_rows(vocabulary: int) -> list[Row]:
    """Rows of random pieces with the lengths of sentences, the same ones at every call."""
    generator = np.random.default_rng(0)
    lengths = generator.integers(8, 64, _ROWS)
    return [Row(generator.integers(0, vocabulary, n), np.full(n, NO_LABEL)) for n in lengths]


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
        "model": source.digest,
        "names": list(names),
        "threads": threads or torch.get_num_threads(),
        "processor": hardware.processor(),
        "device": hardware.device(),
        "torch": torch.__version__,
        "onnxruntime": onnx,
    }
