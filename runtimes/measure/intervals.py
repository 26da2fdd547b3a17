"""Medians, ratios and slowdowns with their intervals: what samples of a noisy machine allow one to say.

A sample's neighbours share whatever the machine was doing, so single samples only give percentiles. Ratios
are judged by rounds: each round's median is one observation, and the logarithms of their ratios are close to
normal.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

_CONFIDENCE_Z = 1.96
_CONFIDENCE = 0.95
_BISECTIONS = 60


class Interval(msgspec.Struct, frozen=True):
    """A median in milliseconds, its 95% confidence interval (by order statistics), and percentiles."""

    median: float
    low: float
    high: float
    p90: float
    p99: float
    samples: int


class Ratio(msgspec.Struct, frozen=True):
    """A quotient of times and its confidence interval; the interval is None when one round leaves none."""

    value: float
    low: float | None
    high: float | None


def interval(samples: Sequence[float]) -> Interval:
    """Median and percentiles of samples in seconds, given in milliseconds."""
    values = np.sort(np.asarray(samples)) * 1e3
    count = len(values)
    # The ranks that hold the median with 95% confidence, by the normal approximation of the binomial.
    margin = _CONFIDENCE_Z * np.sqrt(count) / 2
    low, high = int(max(0, np.floor(count / 2 - margin))), int(min(count - 1, np.ceil(count / 2 + margin)))
    return Interval(
        float(np.median(values)),
        float(values[low]),
        float(values[high]),
        float(np.percentile(values, 90)),
        float(np.percentile(values, 99)),
        count,
    )


def paired_ratio(times: Sequence[float], base: Sequence[float]) -> Ratio:
    """How many times `base` `times` take, both measured in the same rounds: one median a round, positive."""
    logs = np.log(times) - np.log(base)
    return _ratio(float(logs.mean()), _squared_error(logs), len(logs) - 1, _CONFIDENCE)


def independent_ratio(after: npt.ArrayLike, before: npt.ArrayLike, confidence: float) -> Ratio:
    """How many times `before` `after` take, measured in two runs (Welch's interval)."""
    x, y = np.log(after), np.log(before)
    errors = np.array([_squared_error(x), _squared_error(y)])
    degrees = np.array([len(x) - 1, len(y) - 1])
    if degrees.min() < 1:
        return Ratio(float(np.exp(x.mean() - y.mean())), None, None)
    total = float(errors.sum())
    freedom = int(total**2 / (errors**2 / degrees).sum()) if total else int(degrees.sum())
    return _ratio(float(x.mean() - y.mean()), total, max(1, freedom), confidence)


def student_quantile(probability: float, degrees: int) -> float:
    """Student's t below which `probability` (at least a half) lies, for a whole number of degrees of freedom.

    Inverts the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 1.0
    while (1 + _central(high, degrees)) / 2 < probability:
        high *= 2
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 + _central(middle, degrees)) / 2 < probability else (low, middle)
    return high


def _ratio(log: float, squared_error: float, degrees: int, confidence: float) -> Ratio:
    if degrees < 1:
        return Ratio(math.exp(log), None, None)
    margin = student_quantile((1 + confidence) / 2, degrees) * math.sqrt(squared_error)
    return Ratio(math.exp(log), math.exp(log - margin), math.exp(log + margin))


def _squared_error(values: npt.NDArray[np.float64]) -> float:
    """Of the mean."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def _central(t: float, degrees: int) -> float:
    """The probability of -t to t."""
    angle = math.atan(t / math.sqrt(degrees))
    cosine = math.cos(angle)
    odd = degrees % 2
    term = total = (cosine if degrees > 1 else 0.0) if odd else 1.0
    for step in range(2 + odd, degrees - 1, 2):
        term *= cosine**2 * (step - 1) / step
        total += term
    if odd:
        return 2 / math.pi * (angle + math.sin(angle) * total)
    return math.sin(angle) * total
