"""What this machine gives a process (processors, memory), and a function applied to many tasks in several processes."""

import ctypes
import os
import platform
import re
import resource
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from multiprocessing import current_process, get_context, parent_process
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from compactbio.errors import UserError

_PERIOD = 100_000  # microseconds; the period of a quota that names none


def cores(root: Path = Path("/")) -> int:
    """The processors that this process may use at once: those it is bound to, and no more than the CPU quotas of its
    control groups (versions 1 and 2) let it keep busy, rounded down; at least 1. `root` holds `proc` and `sys`."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([bound, *map(int, _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The processors that each control group around this process allows, where it sets a limit."""
    mounts = root / "sys" / "fs" / "cgroup"
    for line in _text(root / "proc" / "self" / "cgroup").splitlines():
        _, _, named = line.partition(":")
        controllers, _, path = named.partition(":")
        if not controllers:
            tops = [mounts]
        elif "cpu" in controllers.split(","):
            tops = [mounts / "cpu", mounts / controllers]
        else:
            continue
        # In a container the path may be the host's, of which only the last group, or none, is visible.
        inner = [part for part in path.split("/") if part not in ("", "..")]
        for top in tops:
            for depth in range(len(inner) + 1):
                yield from _quota(top.joinpath(*inner[:depth]))


def _quota(group: Path) -> Iterator[float]:
    words = _text(group / "cpu.max").split() or [
        *_text(group / "cpu.cfs_quota_us").split(), *_text(group / "cpu.cfs_period_us").split()
    ]  # fmt: skip
    try:
        quota, period = float(words[0]), float(words[1]) if len(words) > 1 else _PERIOD
    except (IndexError, ValueError):
        return  # no such file, or "max"
    if quota > 0 and period > 0:
        yield quota / period


def processor() -> str:
    """The name of this machine's processor."""
    found = re.search(r"^model name\s*:\s*(.+)$", _text(Path("/proc/cpuinfo")), re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def peak_memory() -> int:
    """The most memory in bytes that this process has used so far."""
    # On Linux getrusage's ru_maxrss would start at the peak of the process that started this one.
    found = re.search(r"^VmHWM:\s*(\d+) kB$", _text(Path("/proc/self/status")), re.MULTILINE)
    return int(found[1]) * 1024 if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


Task = TypeVar("Task")
Result = TypeVar("Result")

HEARTBEAT = 5.0  # seconds
_STOPPING = 120.0  # seconds that workers have to save what they were asked to stop in


# The parameters of glibc's mallopt, and the values that it comes to by itself (man 3 mallopt).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_USUAL = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 2**25, _TRIM_THRESHOLD: 2**26}


@contextmanager
def reusing_memory() -> Iterator[None]:
    """Within it buffers that were freed are used again without asking the system, where the C library can (glibc).

    Else large ones are given back at once, and the system fills each new one with zeros, page by page: a seventh to a
    fifth of the time of a training on a CPU.
    """
    library = _glibc()
    if library is None:
        yield
        return
    for parameter, value in {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}.items():
        library.mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _USUAL.items():
            library.mallopt(parameter, value)
        give_back_memory()


def give_back_memory() -> None:
    """Give what this process has freed back to the system, where its C library can (glibc).

    Batches differ in length, and with them their buffers: glibc keeps freed ones of every size for later, so that
    without this a process of hours holds several times what it uses.
    """
    if library := _glibc():
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


# Tasks that wait for each worker, so that none is idle and memory stays flat.
_WAITING = 3


def unordered_results(
    function: Callable[[Task], Result], tasks: Sequence[Task], workers: int, heartbeat: Callable[[], None]
) -> Iterator[Result]:
    """Give the results as they are ready, in any order; call `heartbeat` every few seconds while waiting.

    With one worker or one task all runs in this process. Of few tasks each splits texts into word pieces by as many
    threads as workers are left for it. Worker processes end when this process ends, however it ends, and when the
    iteration is broken off. Raises what `function` raises, and UserError where a worker dies.
    """
    processes = min(workers, len(tasks))
    if processes <= 1:
        with _tokenizer_threads(workers):
            for task in tasks:
                heartbeat()
                yield function(task)
        return
    with _tokenizer_threads(workers // processes), _pool(processes, _start_worker) as pool:
        pending = {pool.submit(function, task) for task in tasks}
        while pending:
            done, pending = wait(pending, HEARTBEAT, FIRST_COMPLETED)
            heartbeat()
            for future in done:
                yield future.result()


def ordered_results(
    prepare: Callable[..., Callable[[Task], Result]],
    given: tuple[object, ...],
    tasks: Iterable[Task],
    workers: int,
) -> Iterator[Result]:
    """Give `function(task)` for every task, in order; each process makes its own `function = prepare(number, *given)`.

    The numbers of worker processes count from 0; with one worker all runs in this process, whose number is None. Tasks
    are drawn as they are needed, a few per worker before the first result is taken. Workers end and errors are raised
    as in `unordered_results`.
    """
    if workers == 1:
        yield from map(prepare(None, *given), tasks)
        return
    waiting: deque[Future[Result]] = deque()
    with _tokenizer_threads(1), _pool(workers, _start_numbered, prepare, given) as pool:
        for task in tasks:
            waiting.append(pool.submit(_call, task))
            if len(waiting) >= _WAITING * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def results_in_turn(
    prepare: Callable[..., Callable[[Task], Result]],
    given: tuple[object, ...],
    tasks: Sequence[Task],
    needs: Sequence[Iterable[int]],
    workers: int,
    begins: Callable[[int], None],
) -> Iterator[tuple[int, Result]]:
    """Give the number of every task with its result, as they are done; a task begins when those it needs are done.

    `needs` are the numbers of earlier tasks, per task. Of the tasks that can begin the first does, and `begins` is
    called with its number. Processes as in `ordered_results`.
    """
    if workers == 1:
        function = prepare(None, *given)
        for number, task in enumerate(tasks):
            begins(number)
            yield number, function(task)
        return
    waiting, running, done = list(range(len(tasks))), dict[Future[Result], int](), set[int]()
    with _tokenizer_threads(1), _pool(workers, _start_numbered, prepare, given) as pool:
        while waiting or running:
            ready = (number for number in waiting if done.issuperset(needs[number]))
            for number in list(islice(ready, workers - len(running))):
                waiting.remove(number)
                begins(number)
                running[pool.submit(_call, tasks[number])] = number
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                number = running.pop(future)
                done.add(number)
                yield number, future.result()


_CONTEXT = get_context("spawn")


@contextmanager
def _pool(workers: int, start: Callable[..., object], *given: object) -> Iterator[ProcessPoolExecutor]:
    """A pool of new processes (no fork), each of which calls `start(started, *given)` first, where `started` counts
    them; none is left after the block.

    SIGTERM within it is as Ctrl-C, where nothing else takes it.
    """
    with _interrupted_by_sigterm():
        started = _CONTEXT.Value("i", 0)
        pool = ProcessPoolExecutor(workers, _CONTEXT, start, (started, *given))
        try:
            yield pool
            pool.shutdown()
        except BrokenProcessPool as error:
            if not started.value:
                raise UserError(
                    "The worker processes ended before they began. They import the script that starts them: in a "
                    'script, put what it does under `if __name__ == "__main__":`, or take one worker.',
                    setting="workers",
                ) from error
            raise UserError(
                "A worker process died, most likely for lack of memory; run the same command again with fewer "
                "workers, finished work is kept.",
                setting="workers",
            ) from error
        finally:
            # Stop the workers, whatever they are doing; nothing happens where they have ended.
            processes = list((pool._processes or {}).values())
            manager: threading.Thread | None = pool._executor_manager_thread  # type: ignore[assignment]  # wrong stubs
            pool.shutdown(wait=False, cancel_futures=True)
            try:
                for process in processes:
                    process.terminate()
                until = time.monotonic() + _STOPPING
                for process in processes:
                    process.join(max(0, until - time.monotonic()))
            finally:  # also where the user does not wait for what they save
                for process in processes:
                    process.kill()
            # At exit Python would write to the pipe of the pool while this thread is closing it.
            if manager is not None:
                manager.join(10)


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Raise KeyboardInterrupt at the first SIGTERM, the signal of a cluster whose time is over; others are ignored."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end_as_import() -> None:
    """End this process where it is a new worker that is importing the script that started it, which calls it again.

    Its parent says what is wrong with the script (see `_pool`).
    """
    # The standard library asks the same way, where a process is started (multiprocessing.spawn).
    if getattr(current_process(), "_inheriting", False):
        raise SystemExit(1)


def _start_worker(started: Any) -> int:
    """Make this worker process end with its parent, and leave Ctrl-C to it; gives its number from 0."""
    # Ctrl-C reaches every process of the terminal: the parent alone decides what becomes of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with started.get_lock():
        started.value += 1
        return int(started.value) - 1


def _die_with_parent() -> None:
    # The workers of a killed run would otherwise stay, and write beside those of the run that resumes it.
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# Set in worker processes alone, each of which serves one pool.
_function: Callable[[Any], Any]


def _start_numbered(started: Any, prepare: Callable[..., Callable[[Any], Any]], given: tuple[object, ...]) -> None:
    global _function
    number = _start_worker(started)
    try:
        _function = prepare(number, *given)
    except Exception as error:  # raised here it would end the pool, and not reach the user
        _function = partial(_raise, error)


def _raise(error: Exception, _task: object) -> NoReturn:
    raise error


def _call(task: Any) -> Any:
    return _function(task)


@contextmanager
def _tokenizer_threads(count: int) -> Iterator[None]:
    """Let a tokenizer use `count` threads, here and in processes started within; it reads this at its first batch."""
    wanted = {"TOKENIZERS_PARALLELISM": "false"}
    if count > 1:
        wanted = {"TOKENIZERS_PARALLELISM": "true", "RAYON_NUM_THREADS": str(count)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
