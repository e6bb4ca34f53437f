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
# One may build within another.
_building = threading.RLock()
for _one in (_lock, _building):
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
def building(seed: int | None) -> Iterator[None]:
    """Within it a model is built or read, in one thread at a time: transformers patches itself while it does so.

    What is drawn on the CPU comes from `seed`, and torch's generator is left as it was; None where nothing is drawn,
    which leaves the generator to whoever trains in another thread.
    """
    with _building:
        if seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
