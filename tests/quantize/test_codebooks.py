"""Codebooks: entries lie where the values do, and a code is the nearest one."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ringkas.quantize.codebooks import ENTRIES, fit, nearest

Array = npt.NDArray[np.float32]
EQUAL = np.ones((1, 2), np.float32)


@pytest.fixture
def points() -> Array:
    return np.random.default_rng(5).standard_normal((6000, 2)).astype(np.float32)


def lost(points: Array, book: Array, codes: npt.NDArray[np.uint8]) -> float:
    return float(((points - book[codes]) ** 2).sum(axis=1).mean())


def test_a_pair_in_a_byte_loses_less_than_two_values_of_four_bits(points: Array) -> None:
    book = fit(points, EQUAL)
    assert (book.shape, book.dtype) == ((ENTRIES, 2), np.float32)
    # The best 16 levels for one normal value lose 0.0095 of its variance (Max, 1960), two of them twice that.
    assert lost(points, book, nearest(points, EQUAL, book)) < 0.95 * 2 * 0.0095


def test_a_code_is_the_nearest_entry_by_the_weights(points: Array) -> None:
    weights = np.random.default_rng(6).uniform(0.1, 3, points.shape).astype(np.float32)
    book = fit(points, weights)
    codes = nearest(points, weights, book)
    distances = (weights[:, None] * (points[:, None] - book) ** 2).sum(axis=2)
    rows = np.arange(len(points))
    assert codes.dtype == np.uint8
    np.testing.assert_allclose(distances[rows, codes], distances.min(axis=1), atol=1e-4)
    # Codes that belong to other points are seen.
    assert (distances[rows, np.roll(codes, 1)] > distances.min(axis=1) + 1e-3).mean() > 0.9


def test_what_costs_more_is_nearer(points: Array) -> None:
    weights = np.array([[30.0, 1.0]], np.float32)
    book = fit(points, weights)
    errors = ((points - book[nearest(points, weights, book)]) ** 2).mean(axis=0)
    assert 4 * errors[0] < errors[1]


def test_a_book_is_the_same_every_time(points: Array) -> None:
    assert np.array_equal(fit(points, EQUAL), fit(points.copy(), EQUAL))


@pytest.mark.parametrize("number", [1, 3, ENTRIES])
def test_few_points_are_kept_as_they_are(number: int) -> None:
    points = np.random.default_rng(7).standard_normal((number, 2)).astype(np.float32)
    book = fit(points, EQUAL)
    np.testing.assert_allclose(book[nearest(points, EQUAL, book)], points, atol=1e-6)


def test_points_that_are_all_alike_stay_finite() -> None:
    points = np.zeros((1000, 3), np.float32)
    book = fit(points, np.zeros((1, 3), np.float32))
    assert np.isfinite(book).all()
    assert not book[nearest(points, np.ones((1, 3), np.float32), book)].any()
