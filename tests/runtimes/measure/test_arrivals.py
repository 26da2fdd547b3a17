"""The server scenario: arrivals are Poisson, latencies count the waiting, the search finds the rate."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from ringkas.runtimes.measure import worker_process as measure_worker
from ringkas.runtimes.measure.arrivals import serve_rounds
from ringkas.runtimes.measure.cases import SERVER, Case
from ringkas.runtimes.measure.rounds import Procedure
from ringkas.runtimes.measure.worker import Timed

CASE = Case(SERVER, SERVER, ("a text",), 4)


class Sleeper:
    """An encoder that takes as long as it is told, for a text or for many."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls = seconds, 0

    def encode(self, texts: list[str], *, prompt: str) -> None:
        assert prompt == ""
        self.calls += 1
        time.sleep(self.seconds)


class Queue:
    """A worker in its own time: one text takes `seconds`, and one is served after the other."""

    name = "queue"

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def warm_up(self, case: Case) -> None:
        assert case is CASE

    def time(self, case: Case, seconds: float) -> Timed:
        return Timed([{"total": self.seconds}] * 3, None, 1.0)

    def serve(self, case: Case, rate: float, seconds: float, seed: int) -> dict[str, Any]:
        chance = np.random.default_rng(seed)
        arrivals = measure_worker.arrivals(chance, rate, seconds)
        free, latencies = 0.0, []
        for arrival in arrivals:
            free = max(free, arrival) + self.seconds
            latencies.append(free - arrival)
        return {"latencies": latencies, "unfinished": 0}


def test_arrivals_are_a_poisson_process() -> None:
    arrivals = measure_worker.arrivals(np.random.default_rng(0), 40.0, 250.0)
    gaps = np.diff(arrivals)
    assert gaps.mean() == pytest.approx(1 / 40, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # of an exponential they are the same
    seconds = np.bincount(arrivals.astype(int))[:240]
    assert seconds.var() == pytest.approx(seconds.mean(), rel=0.3)  # of a Poisson count too


def test_a_latency_counts_the_waiting() -> None:
    """Texts that wait are served together: nobody waits much longer than two calls."""
    sleeper = Sleeper(0.05)
    answer = measure_worker.serve(sleeper, ["a"], {"rate": 60.0, "seconds": 1.0, "seed": 0})  # type: ignore[arg-type]
    assert len(answer["latencies"]) + answer["unfinished"] == 60
    assert sleeper.calls < 40
    assert min(answer["latencies"]) >= 0.05
    assert np.median(answer["latencies"]) > 0.055


def test_what_is_never_served_is_counted() -> None:
    sleeper = Sleeper(0.4)
    request = {"rate": 2000.0, "seconds": 0.2, "seed": 0}
    answer = measure_worker.serve(sleeper, ["a"], request)  # type: ignore[arg-type]
    assert answer["unfinished"] > 200


def test_the_search_finds_the_rate_of_a_known_queue() -> None:
    """One that serves 100 a second: its 99th percentile passes 100 ms at 77 a second, in the long run."""
    (found,) = serve_rounds([Queue(0.01)], CASE, Procedure(latency_bound_ms=100.0))  # type: ignore[list-item]
    assert 65 <= found.rate <= 90
    assert found.p99_ms is not None
    assert found.p99_ms <= 100
    assert any(not trial.holds for trial in found.trials)


def test_an_engine_slower_than_the_bound_holds_no_rate() -> None:
    (found,) = serve_rounds([Queue(0.2)], CASE, Procedure(latency_bound_ms=100.0))  # type: ignore[list-item]
    assert found.rate == 0
    assert found.p99_ms is None
