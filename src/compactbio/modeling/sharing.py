"""State that threads of one process share: a model's attention and mode, the log of a library, torch's generator."""

import os
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

_lock = threading.Lock()
_held: dict[Hashable, tuple[int, Callable[[], object]]] = {}
# Draws and loads come one after another; within one of them there may be another.
_drawing = threading.RLock()
for _one in (_lock, _drawing):
    # A process is never forked while another of its threads holds one, which nobody would let go there.
    os.register_at_fork(before=_one.acquire, after_in_parent=_one.release, after_in_child=_one.release)


@contextmanager
def held(key: Hashable, change: Callable[[], Callable[[], object]]) -> Iterator[None]:
    """Within it what `change` changes is in force; it returns what changes it back.

    Of the threads that are within it with one `key` at the same time, the first changes and the last changes back.
    """
    with _lock:
        count, back = _held.get(key) or (0, change())
        _held[key] = (count + 1, back)
    try:
        yield
    finally:
        with _lock:
            count, back = _held.pop(key)
            if count > 1:
                _held[key] = (count - 1, back)
            else:
                back()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within it a model is in eval mode; after it in the mode that it had."""

    with held(("mode", id(model)), partial(_to_eval, model)):
        yield


def _to_eval(model: nn.Module) -> Callable[[], object]:
    before = model.training
    model.eval()
    return partial(model.train, before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it torch draws on the CPU from `seed`, in one thread at a time; its generator is left as it was."""
    with _drawing, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
