"""Requests that arrive together share a batch: what waits while one batch is computed makes up the next."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from compactbio.annotate.annotator import Annotator, Entity


class FullError(Exception):
    """As many documents wait as may."""


class LateError(Exception):
    """A request's turn did not come in time."""


@dataclass(frozen=True)
class _Request:
    texts: Sequence[str]
    done: "asyncio.Future[list[list[Entity]]]"


class Batcher:
    """Annotates the texts of concurrent requests in shared batches, in one thread of its own, first come first served.

    At most `waiting` documents wait, none longer than `seconds` for its answer, and `together` make a batch, or one
    request where it has more. `on_batch` is told the documents of each batch. All methods belong to one event loop.
    """

    def __init__(
        self,
        annotator: Annotator,
        *,
        waiting: int,
        seconds: float,
        together: int,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self._annotator = annotator
        self._limit, self._seconds, self._together = waiting, seconds, together
        self._on_batch = on_batch or (lambda documents: None)
        self._queue: deque[_Request] = deque()
        self._thread = ThreadPoolExecutor(1, "annotator")
        self._work: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Documents that wait for a batch."""
        return sum(len(request.texts) for request in self._queue)

    async def annotate(self, texts: Sequence[str]) -> list[list[Entity]]:
        """The entities of each text. Raises FullError where they are not taken, LateError where their turn is late."""
        if self.waiting + len(texts) > self._limit and self._queue:
            raise FullError
        request = _Request(texts, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._drain())
        try:
            return await asyncio.wait_for(request.done, self._seconds)
        except TimeoutError:
            raise LateError from None

    async def stop(self) -> None:
        """Finish all that was taken."""
        if self._work is not None:
            await self._work
        self._thread.shutdown()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._next():
            texts = [text for request in batch for text in request.texts]
            self._on_batch(len(texts))
            try:
                found = await loop.run_in_executor(self._thread, self._annotator, texts)
            except Exception as error:
                for request in batch:
                    if not request.done.done():
                        request.done.set_exception(error)
                continue
            start = 0
            for request in batch:
                end = start + len(request.texts)
                if not request.done.done():
                    request.done.set_result(found[start:end])
                start = end

    def _next(self) -> list[_Request]:
        batch: list[_Request] = []
        size = 0
        while self._queue and (not batch or size + len(self._queue[0].texts) <= self._together):
            request = self._queue.popleft()
            # Whoever was told that it is late waits for nothing any more.
            if not request.done.cancelled():
                batch.append(request)
                size += len(request.texts)
        return batch
