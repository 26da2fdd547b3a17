"""Packing: every token of every text in order, nothing of the padding; buckets hold what is put into them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringkas.runtimes.packing import Packed, bucket_of, pack
from ringkas.tokens import pad


def rows_of(packed: Packed) -> list[list[int]]:
    return [packed.ids[a:b].tolist() for a, b in zip(packed.bounds, packed.bounds[1:], strict=False)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=7), min_size=1, max_size=9))
def test_texts_come_out_as_they_went_in(rows: list[list[int]]) -> None:
    packed = pack(pad(rows, 1), first_position=2)
    assert rows_of(packed) == rows
    assert packed.positions.tolist() == [2 + place for row in rows for place in range(len(row))]
    assert {one.dtype for one in (packed.ids, packed.positions, packed.bounds)} == {np.dtype(np.int32)}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), max_size=7), min_size=1, max_size=9))
def test_what_fills_a_bucket_belongs_to_no_text(rows: list[list[int]]) -> None:
    packed = pack(pad(rows, 0), first_position=0)
    bucket = packed.bucket
    row = packed.filled(bucket)
    ids, positions, bounds = np.split(row, [bucket.tokens, 2 * bucket.tokens])
    assert rows_of(Packed(ids, positions, bounds)) == rows + [[]] * (bucket.texts - len(rows))
    assert bounds[-1] == len(packed.ids)


@pytest.mark.parametrize("tokens", [1, 15, 16, 17, 100, 128, 129, 1000, 1024, 1025, 5000, 16384, 100_000])
def test_a_bucket_is_large_enough_and_not_much_larger(tokens: int) -> None:
    bucket = bucket_of(tokens, 5, 33)
    assert tokens <= bucket.tokens <= max(tokens + 15, 1.125 * tokens)
    assert (bucket.texts, bucket.longest) == (8, 64)


def test_few_buckets_serve_many_batches() -> None:
    assert len({bucket_of(tokens, 32, 64) for tokens in range(1, 16_385)}) < 100
