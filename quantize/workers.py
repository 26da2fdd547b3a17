"""Rounding on every core: each layer, or part of a table, on one.

What PyTorch shares among cores waits for the slowest of them. In steps of some thousand values that is most
of the time, and where another process has one of the cores nearly all of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import psutil
import torch
from threadpoolctl import threadpool_limits

from ringkas.runtimes.engine import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")
_MOST = 8  # at a time: all share one interpreter
_MATRICES = 6  # square ones that the rounding of a layer holds at once


def each(work: Callable[[Item], Result], items: Iterable[Item], width: int = 0) -> Iterator[Result]:
    """What `work` gives for each of `items`, in their order; at most one is taken beyond those worked on.

    Args:
        work: called in other threads, which compute no gradients and have one thread of PyTorch's each.
        items: may be made as they are taken.
        width: of the square float32 matrices that the work on one item holds. Where the memory does not allow
            as many as there are cores, fewer are worked on.

    Raises whatever `work` raises, for the first item for which it does.
    """

    def without_gradients(item: Item) -> Result:
        with torch.no_grad():  # each thread has a mode of its own
            return work(item)

    threads = torch.get_num_threads()
    fitting = psutil.virtual_memory().available // (_MATRICES * 4 * width**2 + 1)
    at_once = max(1, min(threads, usable_cores(), _MOST, fitting))
    running: deque[Future[Result]] = deque()
    with threadpool_limits(1, "blas"):  # NumPy's, above all
        pool = ThreadPoolExecutor(at_once, "rounding", torch.set_num_threads, (1,))
        try:
            for item in items:
                if len(running) == at_once:
                    yield running.popleft().result()
                running.append(pool.submit(without_gradients, item))
            while running:
                yield running.popleft().result()
        finally:
            try:
                pool.shutdown(cancel_futures=True)
            finally:
                torch.set_num_threads(threads)  # a worker's 1 had become what new threads get, too
