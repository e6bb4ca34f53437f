"""One function over a stream of tasks, in this process or in several, results in the order of the tasks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

from compactbio.corpus.crew import end, start_worker
from compactbio.errors import UserError

Task = TypeVar("Task")
Result = TypeVar("Result")

# Tasks that wait for each worker, so that none does and memory stays flat.
_AHEAD = 3


def ordered(
    prepare: Callable[..., Callable[[Task], Result]], given: tuple[object, ...], tasks: Iterable[Task], workers: int
) -> Iterator[Result]:
    """Give `function(task)` for every task, in order; each process makes its own `function = prepare(number, *given)`.

    The numbers of worker processes count from 0; with one worker all runs in this process, whose number is None. Tasks
    are drawn as they are needed. Raises what the function raises, and UserError where a worker dies.
    """
    if workers == 1:
        yield from map(prepare(None, *given), tasks)
        return
    context = get_context("spawn")
    pool = ProcessPoolExecutor(workers, context, _prepare, (context.Value("i", 0), prepare, given))
    waiting: deque[Future[Result]] = deque()
    try:
        for task in tasks:
            waiting.append(pool.submit(_call, task))
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


# Set in worker processes alone, each of which serves one pool.
_function: Callable[[Any], Any]


def _prepare(started: Any, prepare: Callable[..., Callable[[Any], Any]], given: tuple[object, ...]) -> None:
    global _function
    start_worker()
    with started.get_lock():
        number = started.value
        started.value += 1
    _function = prepare(number, *given)


def _call(task: Any) -> Any:
    return _function(task)
