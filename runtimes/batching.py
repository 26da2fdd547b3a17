"""Sorted batches filled by a token budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def batches(lengths: Sequence[int], token_budget: int) -> Iterator[list[int]]:
    """Positions grouped so that each batch, padded to its longest row, holds at most `token_budget` tokens.

    Longest first: neighbours have about the same length, so that little padding is computed, and the batch
    that needs the most memory comes first. A row longer than the budget is a batch of its own.
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    start = 0
    while start < len(order):
        count = max(1, token_budget // max(1, lengths[order[start]]))
        yield order[start : start + count]
        start += count
