"""Shared batches of concurrent requests, computed in steps, so that a long text delays no other."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from compactbio.annotate.annotator import Annotator, Entity

# A batch of several texts has at most so many characters, and a step of a batch so many tokens: about as much.
_CHARACTERS, _TOKENS = 20_000, 8192

Found = list[Entity] | Exception


class FullError(Exception):
    """The queue is full of documents or of characters."""


@dataclass(eq=False)
class _Request:
    """Texts of one request; `found` are the results by place, and the first `taken` texts are in batches."""

    texts: Sequence[str]
    done: "asyncio.Future[None]"
    found: dict[int, Found] = field(default_factory=dict)
    taken: int = 0


@dataclass(eq=False)
class _Batch:
    """Texts by their request and their place in it; `steps` computes them, None before the first step."""

    texts: list[tuple[_Request, int]]
    steps: Generator[None, None, list[list[Entity]]] | None = None


class Batcher:
    """Annotates the texts of concurrent requests in shared batches, in one thread of its own.

    A batch takes one text of each request in turn, `together` at most; `on_batch` is called with their number. Batches
    are computed in steps by turns; texts whose request was cancelled are not computed. Documents without an answer are
    accepted up to `waiting`, or so many `characters`; one request always is. All methods belong to one event loop.
    """

    def __init__(
        self,
        annotator: Annotator,
        *,
        waiting: int,
        characters: int,
        together: int,
        on_batch: Callable[[int], None] = lambda documents: None,
    ) -> None:
        self._annotator = annotator
        self._limits, self._together, self._on_batch = (waiting, characters), together, on_batch
        self._queue: deque[_Request] = deque()
        self._thread = ThreadPoolExecutor(1, "annotator")
        self._worker: asyncio.Task[None] | None = None
        self._began: float | None = None
        self.documents = self.characters = 0
        """What was accepted and has no answer yet."""

    @property
    def full(self) -> bool:
        """Whether no more is accepted."""
        return self.documents >= self._limits[0] or self.characters >= self._limits[1]

    @property
    def busy(self) -> float:
        """Seconds since the current step began, 0.0 where there is none."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    async def annotate(self, texts: Sequence[str]) -> list[Found]:
        """The entities of each text, or the exception that it failed with.

        Raises FullError where they are not accepted. Where this is cancelled, what is not computed yet never is.
        """
        documents, characters = len(texts), sum(map(len, texts))
        most_documents, most_characters = self._limits
        if self.documents and (
            self.documents + documents > most_documents or self.characters + characters > most_characters
        ):
            raise FullError
        request = _Request(texts, asyncio.get_running_loop().create_future())
        self.documents += documents
        self.characters += characters
        self._queue.append(request)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._drain())
        try:
            await request.done
        finally:
            self.documents -= documents
            self.characters -= characters
        return [request.found[place] for place in range(documents)]

    async def stop(self) -> None:
        """Finish all that was accepted."""
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def _drain(self) -> None:
        batches: deque[_Batch] = deque()
        while self._queue or batches:
            # No new batch while one waits for its first step: all that arrives meanwhile shares the next one.
            if (not batches or batches[-1].steps is not None) and (new := self._next()):
                self._on_batch(len(new.texts))
                batches.append(new)
            if not batches:
                continue
            batch = batches.popleft()
            if all(request.done.done() for request, _ in batch.texts):
                continue
            self._began = time.monotonic()
            try:
                found = await asyncio.get_running_loop().run_in_executor(self._thread, self._step, batch)
            except Exception as error:
                if len(batch.texts) > 1:
                    # One of them fails: each on its own.
                    batches.extend(_Batch([one]) for one in batch.texts)
                else:
                    _answer(batch, [error])
                continue
            finally:
                self._began = None
            if found is None:
                batches.append(batch)
            else:
                _answer(batch, found)

    def _next(self) -> _Batch | None:
        texts: list[tuple[_Request, int]] = []
        size = 0
        while self._queue and len(texts) < self._together:
            request = self._queue.popleft()
            if request.done.done():
                continue
            size += len(request.texts[request.taken])
            if texts and size > _CHARACTERS:
                self._queue.appendleft(request)
                break
            texts.append((request, request.taken))
            request.taken += 1
            if request.taken < len(request.texts):
                self._queue.append(request)
        return _Batch(texts) if texts else None

    def _step(self, batch: _Batch) -> list[list[Entity]] | None:
        """Compute a step of a batch, in the thread; the results after the last step, else None."""
        if batch.steps is None:
            texts = [request.texts[place] for request, place in batch.texts]
            batch.steps = self._annotator.steps(texts, tokens=_TOKENS)
        try:
            next(batch.steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        return None


def _answer(batch: _Batch, found: Sequence[Found]) -> None:
    for (request, place), result in zip(batch.texts, found, strict=True):
        request.found[place] = result
        if len(request.found) == len(request.texts) and not request.done.done():
            request.done.set_result(None)
