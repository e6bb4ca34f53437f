"""The same function over many tasks, in this process or in several."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import TypeVar

from compactbio.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

HEARTBEAT = 5.0  # seconds


def results(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, heartbeat: Callable[[], None]
) -> Iterator[Result]:
    """Give the results as they are ready, in any order; call `heartbeat` every few seconds while waiting.

    With one worker or one task all runs in this process. Worker processes are started afresh (no fork), end when
    this process ends, however it ends, and are ended when the iteration is broken off.
    Raises what `function` raises, and UserError where a worker dies.
    """
    if min(workers, len(tasks)) <= 1:
        with _single_threaded():
            yield from map(function, tasks)
        return
    with _single_threaded():
        pool = ProcessPoolExecutor(min(workers, len(tasks)), get_context("spawn"), start_worker)
        try:
            yield from _completed({pool.submit(function, task) for task in tasks}, heartbeat)
            pool.shutdown()
        except BrokenProcessPool as error:
            raise UserError(
                "A worker process died, most likely for lack of memory; run the same command again with fewer "
                "--workers, finished work is kept."
            ) from error
        finally:
            end(pool)


def _completed(pending: set[Future[Result]], heartbeat: Callable[[], None]) -> Iterator[Result]:
    while pending:
        done, pending = wait(pending, HEARTBEAT, FIRST_COMPLETED)
        heartbeat()
        for future in done:
            yield future.result()


def end(pool: ProcessPoolExecutor) -> None:
    """Stop the workers without waiting for what they are at; nothing happens where they have ended."""
    processes = list((pool._processes or {}).values())
    manager: threading.Thread | None = pool._executor_manager_thread  # type: ignore[assignment]  # the stubs are wrong
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    # Python's own end of the pool, at exit, meets a closed pipe where this thread is just closing it.
    if manager is not None:
        manager.join(10)


def start_worker() -> None:
    """Make this worker process end with its parent, and leave Ctrl-C to it."""
    # Ctrl-C reaches every process of the terminal: the parent alone decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    # Else the workers of a killed run would stay, and write beside those of the run that goes on.
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Keep the tokenizer's own threads off, here and in processes started within: one task, one core."""
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("TOKENIZERS_PARALLELISM", None)
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
