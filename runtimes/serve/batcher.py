"""Requests of many clients joined into the engine's batches: one thread an engine, a bounded queue."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ringkas.runtimes.batching import batches
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.long_texts import Rows
from ringkas.runtimes.serve.limits import Limits

# What is sorted by length together: some batches, so that neighbours in one have about the same length.
_BATCHES_AT_ONCE = 8


class QueueFull(Exception):
    """No room; `retry_s` is about when there will be."""

    def __init__(self, retry_s: int) -> None:
        super().__init__("the queue is full")
        self.retry_s = retry_s


@dataclass(eq=False)
class _Waiting:
    """One request's rows. `begun` of them were taken, `left` are not encoded yet."""

    rows: Rows
    vectors: Vectors
    future: asyncio.Future[Vectors]
    loop: asyncio.AbstractEventLoop
    begun: int = 0
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = len(self.rows.ids)


Taken = tuple[_Waiting, int]  # a request and the number of one of its rows


@dataclass(frozen=True, eq=False)
class _Batch:
    """Rows that go through the engine together, all pooled alike."""

    pooled_from: int
    rows: list[Taken]

    @property
    def ids(self) -> list[Sequence[int]]:
        return [request.rows.ids[row] for request, row in self.rows]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.ids))


class Batcher:
    """Encodes rows for many callers.

    While the engine runs, requests gather; when it can take more it takes, from each in turn, what fills some
    batches, and so on without a pause while requests come. Only after a batch that several requests shared
    does it wait for more, `wait_ms` at most.

    Args:
        observe: told the texts and the tokens of each batch.
    """

    def __init__(
        self,
        encoder: Encoder,
        limits: Limits,
        observe: Callable[[int, int], None] = lambda texts, tokens: None,
    ) -> None:
        self._encoder, self._limits, self._observe = encoder, limits, observe
        self._budget = encoder.engine.batch_tokens
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed, self._shared = False, False
        self._last_end = 0.0
        self._rate = 0.0  # tokens a second
        self.queued_tokens = 0
        encoder.engine.prepare_many()
        self._thread = threading.Thread(target=self._work, name="ringkas-engine", daemon=True)
        self._thread.start()

    def submit(self, rows: Rows) -> asyncio.Future[Vectors]:
        """The rows' vectors, in order, when they are ready; to be called in an event loop.

        Raises:
            QueueFull: so many tokens wait that these find no room.
        """
        loop = asyncio.get_running_loop()
        vectors = np.empty((len(rows.ids), self._encoder.dimension), dtype=np.float32)
        waiting = _Waiting(rows, vectors, loop.create_future(), loop)
        with self._changed:
            if self.queued_tokens + rows.tokens > self._limits.queue_tokens:
                raise QueueFull(max(1, math.ceil(self.queued_tokens / self._rate)) if self._rate else 1)
            self.queued_tokens += rows.tokens
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.future

    def close(self) -> None:
        """Ends the thread, after what waits is encoded."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        waiting: deque[_Batch] = deque()
        while waiting or self._fill(waiting, self._take()):
            self._run(waiting)

    def _fill(self, waiting: deque[_Batch], taken: list[Taken]) -> bool:
        """Puts rows into batches of about equal lengths, for one pooling each; whether there is any."""
        by_pooling: dict[int, list[Taken]] = {}
        for one in taken:
            by_pooling.setdefault(one[0].rows.pooled_from, []).append(one)
        for pooled_from, group in by_pooling.items():
            lengths = [len(request.rows.ids[row]) for request, row in group]
            for places in batches(lengths, self._budget):
                waiting.append(_Batch(pooled_from, [group[place] for place in places]))
        return bool(waiting)

    def _run(self, waiting: deque[_Batch]) -> None:
        """Encodes batches while there are any for one pooling, those that come meanwhile too.

        A batch that fails is answered so, and what was begun after it is begun again.
        """
        pooled_from, begun = waiting[0].pooled_from, deque[_Batch]()
        self._last_end = time.perf_counter()

        def following() -> Iterator[list[Sequence[int]]]:
            while waiting or self._fill(waiting, self._take(block=False)):
                if waiting[0].pooled_from != pooled_from:
                    return
                begun.append(waiting.popleft())
                yield begun[-1].ids

        try:
            for vectors in self._encoder.encode_batches(following(), pooled_from):
                self._clock(begun[0].tokens)
                self._done(begun.popleft(), vectors)
        except Exception as error:
            if not begun:
                raise
            self._done(begun.popleft(), error)
            waiting.extendleft(reversed(begun))

    def _clock(self, tokens: int) -> None:
        """Tokens a second, over about the last ten batches."""
        before, self._last_end = self._last_end, time.perf_counter()
        rate = tokens / max(1e-9, self._last_end - before)
        self._rate = rate if not self._rate else 0.9 * self._rate + 0.1 * rate

    def _done(self, batch: _Batch, found: Vectors | Exception) -> None:
        ready: list[tuple[_Waiting, BaseException | None]] = []
        if isinstance(found, Exception):
            ready = [(request, found) for request in dict.fromkeys(request for request, _ in batch.rows)]
        else:
            for vector, (request, row) in zip(found, batch.rows, strict=True):
                request.vectors[row] = vector
                request.left -= 1
                if request.left == 0:
                    ready.append((request, None))
        with self._changed:
            self.queued_tokens -= batch.tokens
        self._observe(len(batch.rows), batch.tokens)
        if ready:
            ready[0][0].loop.call_soon_threadsafe(_settle, ready)

    def _take(self, *, block: bool = True) -> list[Taken]:
        """Rows of the requests that wait, one batch's worth of each in turn.

        None when the batcher is closed, or when nothing waits and this may not `block`.
        """
        with self._changed:
            while not self._waiting:
                if self._closed or not block:
                    return []
                self._changed.wait()
            if self._shared and block:
                self._wait_for_more()
            taken: list[Taken] = []
            room, requests = _BATCHES_AT_ONCE * self._budget, set[int]()
            while self._waiting and room > 0:
                first = self._waiting.popleft()
                requests.add(id(first))
                share = min(room, self._budget)
                while first.begun < len(first.rows.ids) and share > 0:
                    length = len(first.rows.ids[first.begun])
                    taken.append((first, first.begun))
                    first.begun += 1
                    share, room = share - length, room - length
                if first.begun < len(first.rows.ids):
                    self._waiting.append(first)
            self._shared = len(requests) > 1
            return taken

    def _wait_for_more(self) -> None:
        until = self._last_end + self._limits.wait_ms / 1e3
        while not self._closed and self.queued_tokens < self._budget:
            left = until - time.perf_counter()
            if left <= 0:
                return
            self._changed.wait(left)


def _settle(ready: list[tuple[_Waiting, BaseException | None]]) -> None:
    for waiting, error in ready:
        if waiting.future.done():  # its client has gone
            continue
        if error is None:
            waiting.future.set_result(waiting.vectors)
        else:
            waiting.future.set_exception(error)
