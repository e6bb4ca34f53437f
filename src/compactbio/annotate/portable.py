"""A runtime that goes where its annotator goes: into copies, pickles and forked processes."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from compactbio.deploy import runtimes
from compactbio.errors import UserError
from compactbio.tasks.rows import Row
from compactbio.training.loading import Source

# Sessions of the parent process, kept: to let one go is to wait for its threads.
_inherited: list[runtimes.Runtime] = []


class Portable:
    """The runtime `name` of a source, on `threads`. A copy shares it, a pickle holds where it was loaded from.

    A process forked from the one that loaded it has none of the parent's threads, and would wait for them for ever:
    there it runs on one thread, in a session of its own.
    """

    def __init__(self, source: Source, name: str, threads: int | None) -> None:
        self._source = replace(source, folder=source.folder.absolute())
        self._threads = threads
        self._runtime = runtimes.load(source, name, threads)
        self._process = os.getpid()
        self._on_gpu = name in runtimes.TORCH and torch.cuda.is_available()

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
        if self.name in runtimes.ONNX_FILES:
            _inherited.append(self._runtime)
            self._runtime = runtimes.load(self._source, self.name, 1)
        self._process = os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._source, self.name, self._threads)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self
