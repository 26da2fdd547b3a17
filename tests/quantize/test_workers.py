"""Work on one core each: in order, bounded, and nothing of it left behind."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from ringkas.quantize import workers


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 4)


def test_results_come_in_the_order_of_the_items() -> None:
    def slowest_first(item: int) -> int:
        time.sleep((20 - item) / 1000)
        return 10 * item

    assert list(workers.each(slowest_first, range(20))) == [10 * item for item in range(20)]


def test_each_item_has_one_thread_and_no_gradients() -> None:
    weight = torch.ones(2, requires_grad=True)
    seen = list(workers.each(lambda item: (torch.get_num_threads(), (weight * item).requires_grad), range(8)))
    assert seen == [(1, False)] * 8


def test_the_threads_of_the_caller_and_of_later_threads_are_as_before() -> None:
    before, later = torch.get_num_threads(), []
    list(workers.each(lambda item: item, range(3)))
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert [torch.get_num_threads(), *later] == [before, before]


def test_no_more_items_are_taken_than_are_worked_on() -> None:
    """They may be large: the moments of a layer's inputs."""
    taken, done = 0, 0

    def items() -> object:
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
