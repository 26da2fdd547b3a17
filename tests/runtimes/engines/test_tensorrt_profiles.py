"""Optimisation profiles: read from the user's words, kept within the position table, fitted to batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ringkas import RingkasError
from ringkas.runtimes.engines.tensorrt_profiles import (
    Profile,
    Shape,
    choose,
    default_profiles,
    parse_profiles,
    split,
)


def test_defaults_are_one_for_latency_and_one_for_throughput() -> None:
    single, bulk = default_profiles(512)
    assert single == Profile(Shape(1, 512), Shape(1, 32))
    assert bulk == Profile(Shape(256, 512), Shape(32, 128))
    assert parse_profiles((), 512, 512) == (single, bulk)


def test_short_checkpoints_have_short_profiles() -> None:
    assert [profile.best.length for profile in default_profiles(16)] == [16, 16]


def test_a_profile_is_written_as_it_is_read() -> None:
    stated = ("8x256", "64x512@16x100")
    parsed = parse_profiles(stated, 512, 512)
    assert parsed == (Profile(Shape(8, 256), Shape(8, 128)), Profile(Shape(64, 512), Shape(16, 100)))
    assert parse_profiles(tuple(map(str, parsed)), 512, 512) == parsed


@pytest.mark.parametrize("stated", ["8", "8x", "x8", "8x-1", "8x8@4", "8 x 8", "axb", ""])
def test_nonsense_is_refused(stated: str) -> None:
    with pytest.raises(RingkasError, match="cannot be read"):
        parse_profiles((stated,), 512, 512)


@pytest.mark.parametrize("stated", ["0x8", "8x0", "8x8@9x8", "8x8@8x9", "8x8@0x1"])
def test_empty_profiles_are_refused(stated: str) -> None:
    with pytest.raises(RingkasError, match="is empty"):
        parse_profiles((stated,), 512, 512)


def test_beyond_the_position_table_is_refused() -> None:
    assert parse_profiles(("4x512",), 256, 512)
    with pytest.raises(RingkasError, match=r"positions for 512 tokens.*Write at most 4x512"):
        parse_profiles(("4x513",), 256, 512)


def test_the_smallest_profile_that_fits_is_chosen() -> None:
    most = [Shape(256, 512), Shape(1, 512), Shape(8, 64)]
    assert choose(most, Shape(1, 20)) == 1 or choose(most, Shape(1, 20)) == 2
    assert choose(most, Shape(1, 100)) == 1
    assert choose(most, Shape(2, 64)) == 2
    assert choose(most, Shape(2, 65)) == 0
    assert choose(most, Shape(257, 1)) is None


@given(st.integers(1, 2000), st.integers(1, 512))
def test_every_piece_of_a_batch_fits_a_profile(batch: int, length: int) -> None:
    most = [Shape(1, 512), Shape(64, 128)]
    pieces = split(most, Shape(batch, length))
    assert sum(pieces) == batch
    assert all(choose(most, Shape(piece, length)) is not None for piece in pieces)


def test_a_length_that_no_profile_has_is_refused_with_the_way_out() -> None:
    with pytest.raises(RingkasError, match=r"longest is 128.*--profile 3x129"):
        split([Shape(8, 128), Shape(1, 64)], Shape(3, 129))
