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
# Building may be nested.
_building = threading.RLock()
for _each in (_lock, _building):
    # A process is never forked while one of its threads holds a lock, which no thread of the child would release.
    os.register_at_fork(before=_each.acquire, after_in_parent=_each.release, after_in_child=_each.release)


@contextmanager
def held(key: Hashable, change: Callable[[], Callable[[], object]]) -> Iterator[None]:
    """Within it a change of the shared state `key` holds: `change` makes it, and returns what undoes it.

    Of the threads that are within it at the same time, the first makes the change and the last undoes it.
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
    """Within it a model is in eval mode, afterwards in the mode that it had."""
    with held(("mode", id(model)), partial(_to_eval, model)):
        yield


def _to_eval(model: nn.Module) -> Callable[[], object]:
    before = model.training
    model.eval()
    return partial(model.train, before)


@contextmanager
def building(seed: int | None) -> Iterator[None]:
    """Within it a model is built or read, by one thread at a time: transformers patches itself while it does so.

    What is drawn on the CPU is drawn from `seed`, and torch's generator is left as it was; the seed is None where
    nothing is drawn, so that another thread may train meanwhile.
    """
    with _building:
        if seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
