"""One function over a stream of tasks, in this process or in several, results in the order of the tasks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from compactbio.corpus.crew import end, start_worker
from compactbio.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks that wait for each worker, so that none does and memory stays flat.
_AHEAD = 3


def ordered(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    prepare: Callable[..., None],
    *given: object,
) -> Iterator[Result]:
    """Give `function(task)` for every task, in order; each process first calls `prepare(*given)`.

    With one worker all runs in this process. Tasks are drawn as they are needed. Raises what `function` raises, and
    UserError where a worker dies.
    """
    if workers == 1:
        prepare(*given)
        yield from map(function, tasks)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _prepared, (prepare, given))
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(function, task))
            if len(waiting) >= _AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        pool.shutdown()
    except BrokenProcessPool as error:
        raise UserError(
            "A worker process died, most likely for lack of memory; run the same command again with fewer --workers, "
            "finished work is kept."
        ) from error
    finally:
        end(pool)


def _prepared(prepare: Callable[..., None], given: tuple[object, ...]) -> None:
    start_worker()
    prepare(*given)
