"""How fast 8-bit matrix products are on this processor beside float32's: measured, not told by its name.

A processor's list of features does not say it: some that can multiply 8-bit integers do so in halves, and
gain nothing. So two small graphs are run, a feed-forward product of multilingual-e5-small in float32 and in 8
bits as the artifacts have it, the rounding of its input included. They lie in `ringkas/data/products`, made
by tests/runtimes/measure/test_products.py: a device needs nothing but onnxruntime.
"""

from __future__ import annotations

import time
from importlib.resources import as_file, files
from statistics import median
from typing import Any

import msgspec
import numpy as np

from ringkas.runtimes.engines.onnxruntime_engine import open_session

INPUTS, OUTPUTS = 384, 1536
SHORT, LONG = 8, 128  # tokens
_ROUNDS = 15
_SECONDS = 0.004  # of one round's calls
# Less than this share of float32's time is worth having: the products are not all that a text costs.
_PAYS = 0.8


class Products(msgspec.Struct, frozen=True):
    """The time of 8-bit products as a share of float32's, for a short text and a long one."""

    short: float
    long: float

    def verdict(self) -> str:
        """What that means for the choice of a target."""
        shares = (
            f"8-bit products take {self.short:.2f} of float32's time at {SHORT} tokens, "
            f"{self.long:.2f} at {LONG}"
        )
        if max(self.short, self.long) <= _PAYS:
            return f"{shares}: onnx-int8 and onnx-int4 are faster here"
        if min(self.short, self.long) <= _PAYS:
            which = "short" if self.short < self.long else "long"
            return f"{shares}: onnx-int8 and onnx-int4 are faster here on {which} texts only"
        return f"{shares}: onnx-int8 and onnx-int4 save space here, and no time"


def measure_products(threads: int | None = None) -> Products:
    """Takes about a second.

    Raises:
        MissingExtra: onnxruntime is not installed.
        RingkasError: it is broken.
    """
    sessions = {name: _open(name, threads) for name in ("float32", "int8")}
    return Products(*(_share(sessions, tokens) for tokens in (SHORT, LONG)))


def _open(name: str, threads: int | None) -> Any:
    with as_file(files("ringkas") / "data" / "products" / f"{name}.onnx") as file:
        return open_session(file, threads, "cpu")


def _share(sessions: dict[str, Any], tokens: int) -> float:
    """The median over rounds, each of which times both graphs: a shared machine changes its speed."""
    given = {"x": np.random.default_rng(0).standard_normal((tokens, INPUTS), dtype=np.float32)}
    calls = {name: _calls(session, given) for name, session in sessions.items()}
    rounds = [
        {name: _seconds(session, given, calls[name]) for name, session in sessions.items()}
        for _ in range(_ROUNDS)
    ]
    return float(median(one["int8"] / one["float32"] for one in rounds))


def _calls(session: Any, given: dict[str, Any]) -> int:
    _seconds(session, given, 3)
    return max(1, round(_SECONDS / _seconds(session, given, 3)))


def _seconds(session: Any, given: dict[str, Any], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        session.run(None, given)
    return (time.perf_counter() - started) / calls
