"""Rounding on every core: each layer, or part of a table, on one.

What PyTorch shares among cores waits for the slowest of them. In steps of some thousand values that is most
of the time, and where another process has one of the cores nearly all of it: on two cores beside one busy
process, layers took twenty times as long to round.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

from ringkas.runtimes.engine import usable_cores

Item = TypeVar("Item")
Result = TypeVar("Result")
_MOST = 8  # at a time, for each has matrices of its own; and all share one interpreter


def each(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """What `work` gives for each of `items`, in their order; no more are taken than are worked on.

    Raises whatever `work` raises, for the first item for which it does.
    """

    def without_gradients(item: Item) -> Result:
        with torch.no_grad():  # which each thread is told by itself
            return work(item)

    threads = torch.get_num_threads()
    running: deque[Future[Result]] = deque()
    cores = min(usable_cores(), _MOST)
    pool = ThreadPoolExecutor(cores, "rounding", torch.set_num_threads, (1,))
    try:
        with threadpool_limits(1, "blas"):  # NumPy's
            for item in items:
                if len(running) == cores:
                    yield running.popleft().result()
                running.append(pool.submit(without_gradients, item))
            while running:
                yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # the workers' number was that of all threads to come
