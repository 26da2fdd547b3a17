"""Intervals hold what they promise: on samples of known populations, and beside SciPy's quantiles."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ringkas.runtimes.measure.intervals import independent_ratio, interval, paired_ratio, student_quantile


def test_interval_holds_the_median_of_the_population() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        found = interval(rng.exponential(1.0, 101).tolist())
        held += found.low <= 1e3 * np.log(2) <= found.high
    assert 0.90 < held / 300 < 0.99


def test_interval_of_known_samples() -> None:
    found = interval([0.001 * value for value in range(1, 102)])
    assert found.samples == 101
    # The value of rank r is r milliseconds. Half, 90% and 99% of the way from rank 1 to rank 101:
    assert (found.median, found.p90, found.p99) == pytest.approx((51, 91, 100))
    # The median of the population is below rank 41 or above rank 62 in less than 5% of samples.
    assert (found.low, found.high) == pytest.approx((41, 62))
    assert 0.95 < sum(math.comb(101, below) for below in range(41, 62)) / 2**101 < 0.97


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30])
@pytest.mark.parametrize("probability", [0.9, 0.975, 0.9995])
def test_student_quantile_is_scipys(probability: float, degrees: int) -> None:
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    assert student_quantile(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees))


@pytest.mark.parametrize("paired", [True, False])
def test_ratio_intervals_hold_the_true_ratio(paired: bool) -> None:
    """A machine whose speed drifts by 30% from round to round, the same for both when they share rounds."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        drift = rng.normal(0, 0.3, 5)
        base = np.exp(drift + rng.normal(0, 0.02, 5))
        shared = drift if paired else rng.normal(0, 0.3, 5)
        times = 1.25 * np.exp(shared + rng.normal(0, 0.02, 5))
        found = paired_ratio(times, base) if paired else independent_ratio(times, base, 0.95)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 1.25 <= found.high
        if paired:  # what the rounds share is gone
            assert found.high / found.low < 1.2
    assert 0.92 < held / 400 < 0.99


def test_one_round_has_no_interval() -> None:
    assert paired_ratio([2.0], [1.0]).low is None
    assert independent_ratio([2.0, 2.1], [1.0], 0.95).high is None
