"""Batches: every row once, within the budget, little padding."""

from __future__ import annotations

import random

import pytest

from ringkas.runtimes.batching import batches

LENGTHS = random.Random(3).choices([1, 2, 9, 30, 120, 512], k=500)


@pytest.mark.parametrize("lengths", [[], [7], [0, 0, 0], [5] * 40, LENGTHS], ids=len)
@pytest.mark.parametrize("budget", [1, 8, 512, 10**9])
def test_every_row_comes_once_within_the_budget(lengths: list[int], budget: int) -> None:
    found = list(batches(lengths, budget))
    assert sorted(row for batch in found for row in batch) == list(range(len(lengths)))
    for batch in found:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or len(batch) * longest <= budget


@pytest.mark.parametrize("budget", [8, 512, 4096])
def test_no_batch_could_take_one_row_more(budget: int) -> None:
    found = list(batches(LENGTHS, budget))
    for batch in found[:-1]:
        assert (len(batch) + 1) * max(LENGTHS[row] for row in batch) > budget


def test_longest_come_first() -> None:
    order = [LENGTHS[row] for batch in batches(LENGTHS, 512) for row in batch]
    assert order == sorted(LENGTHS, reverse=True)


def test_sorting_saves_padding() -> None:
    def padded(found: list[list[int]]) -> int:
        return sum(len(batch) * max(LENGTHS[row] for row in batch) for batch in found)

    found = list(batches(LENGTHS, 512))
    unsorted = [list(range(start, min(start + 8, 500))) for start in range(0, 500, 8)]
    assert padded(found) < 1.1 * sum(LENGTHS) < padded(unsorted) / 2


def test_equal_lengths_keep_their_order() -> None:
    assert [row for batch in batches([3, 5, 3, 5, 3], 10) for row in batch] == [1, 3, 0, 2, 4]
