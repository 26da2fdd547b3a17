"""Work on one core each: in order, bounded, and nothing of it left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from ringkas.quantize import workers


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    threads = torch.get_num_threads()
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(threads)


def later_threads() -> int:
    """How many a new thread has."""
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return found[0]


def test_results_come_in_the_order_of_the_items() -> None:
    def slowest_first(item: int) -> int:
        time.sleep((20 - item) / 1000)
        return 10 * item

    assert list(workers.each(slowest_first, range(20))) == [10 * item for item in range(20)]


def test_each_item_has_one_thread_and_no_gradients() -> None:
    weight = torch.ones(2, requires_grad=True)
    seen = list(workers.each(lambda item: (torch.get_num_threads(), (weight * item).requires_grad), range(8)))
    assert seen == [(1, False)] * 8


def test_so_many_are_worked_on_at_once() -> None:
    four = threading.Barrier(4, timeout=30)
    assert list(workers.each(lambda item: four.wait() >= 0, range(8))) == [True] * 8


@pytest.mark.parametrize(("threads", "width"), [(1, 0), (4, 10**6)])
def test_fewer_where_pytorch_has_fewer_threads_or_the_memory_is_short(threads: int, width: int) -> None:
    torch.set_num_threads(threads)
    at_work: list[int] = []

    def work(item: int) -> int:
        at_work.append(item)
        time.sleep(0.01)
        seen = len(at_work)
        at_work.remove(item)
        return seen

    assert list(workers.each(work, range(8), width)) == [1] * 8


@pytest.mark.parametrize("ends", ["whole", "early", "by an error"])
def test_the_threads_of_the_caller_and_of_later_threads_are_as_before(ends: str) -> None:
    made = workers.each(lambda item: 1 // item, range(0 if ends == "by an error" else 1, 9))
    if ends == "by an error":
        with pytest.raises(ZeroDivisionError):
            next(made)
    elif ends == "early":
        next(made)
        made.close()
    else:
        list(made)
    assert (torch.get_num_threads(), later_threads()) == (4, 4)


def test_numpy_has_one_thread_meanwhile() -> None:
    def blas() -> set[int]:
        return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}

    with threadpool_limits(3, "blas"):
        assert list(workers.each(lambda _: blas(), range(2))) == [{1}] * 2
        assert blas() == {3}


def test_no_more_items_are_taken_than_are_worked_on() -> None:
    """They may be large: the moments of a layer's inputs."""
    taken, done = 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(30):
            taken += 1
            assert taken - done <= 5, "four at work, and one that waits for a worker"
            yield item

    for _ in workers.each(lambda item: item, items()):
        done += 1
    assert done == 30


def test_an_error_is_raised_and_ends_the_work() -> None:
    started: list[int] = []

    def work(item: int) -> int:
        started.append(item)
        if item == 2:
            raise ValueError("of item 2")
        return item

    before = threading.active_count()
    with pytest.raises(ValueError, match="of item 2"):
        list(workers.each(work, range(100)))
    assert len(started) < 20
    assert threading.active_count() == before
