"""The server scenario: texts arrive at random, and the highest rate that holds a latency bound is sought.

After MLPerf's server scenario: a Poisson process of known rate, and a bound on the 99th percentile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from ringkas.progress import QUIET, Progress
from ringkas.runtimes.measure.cases import Case
from ringkas.runtimes.measure.rounds import Procedure
from ringkas.runtimes.measure.worker import Worker

# A 99th percentile needs some hundred arrivals: a trial lasts until so many came, within these seconds.
_ARRIVALS, _LEAST_SECONDS, _MOST_SECONDS = 300, 2.0, 10.0
_STEPS = 7
_GROWTH = 1.6
# The rate that was found is tried again for longer, and lower until it holds: a short trial can be lucky.
_CONFIRMATIONS, _LONGER, _LOWER = 4, 4, 0.9
_LATER_SEED = 1_000


class Trial(msgspec.Struct, frozen=True):
    """A rate, in texts a second, and what it gave. A percentile is None where its texts were not served."""

    rate: float
    texts: int
    p50_ms: float | None
    p99_ms: float | None
    holds: bool


class Served(msgspec.Struct, frozen=True):
    """One subject. `rate` is the highest that held the bound, with no lower one that failed (0: none did)."""

    name: str
    bound_ms: float
    rate: float
    p99_ms: float | None
    trials: tuple[Trial, ...]


def serve_rounds(
    workers: Sequence[Worker], case: Case, plan: Procedure, progress: Progress = QUIET
) -> list[Served]:
    """Tries rates on every worker in turn.

    Without a stated rate: from half of what the worker encodes one by one, upwards while the bound holds,
    downwards while it does not, then halving the gap (in logarithms); what was found must hold in a trial
    four times as long.
    """
    searches = []
    for worker in workers:
        worker.warm_up(case)
        seconds = [sample["total"] for sample in worker.time(case, plan.seconds).samples]
        searches.append(_Search(worker, plan.rate or 0.5 / float(np.mean(seconds))))
    for step in range(plan.rounds if plan.rate else _STEPS + _CONFIRMATIONS):
        progress.say(f"serving, trial {step + 1}")
        seed = _LATER_SEED * plan.seed + step
        for search in searches:
            if plan.rate or step < _STEPS:
                search.trials.append(_try(search.worker, case, plan.rate or search.next_rate(), plan, seed))
            else:
                search.confirm(case, plan, seed)
    return [search.result(plan.latency_bound_ms) for search in searches]


@dataclass
class _Search:
    worker: Worker
    first: float
    trials: list[Trial] = field(default_factory=list)
    candidate: float | None = None
    confirmed: Trial | None = None

    def best(self) -> Trial | None:
        """The highest rate that held, below all that failed."""
        failed = min((trial.rate for trial in self.trials if not trial.holds), default=np.inf)
        held = [trial for trial in self.trials if trial.holds and trial.rate < failed]
        return max(held, key=lambda trial: trial.rate, default=None)

    def confirm(self, case: Case, plan: Procedure, seed: int) -> None:
        best = self.best()
        if best is None or self.confirmed:
            return
        self.candidate = best.rate if self.candidate is None else self.candidate * _LOWER
        trial = _try(self.worker, case, self.candidate, plan, seed, longer=_LONGER)
        self.trials.append(trial)
        self.confirmed = trial if trial.holds else None

    def next_rate(self) -> float:
        held = max((trial.rate for trial in self.trials if trial.holds), default=None)
        failed = min((trial.rate for trial in self.trials if not trial.holds), default=None)
        if held is None:
            return self.first if failed is None else failed / _GROWTH
        return held * _GROWTH if failed is None else float(np.sqrt(held * failed))

    def result(self, bound_ms: float) -> Served:
        best = self.confirmed or self.best()
        return Served(
            name=self.worker.name,
            bound_ms=bound_ms,
            rate=best.rate if best else 0.0,
            p99_ms=best.p99_ms if best else None,
            trials=tuple(self.trials),
        )


def _try(worker: Worker, case: Case, rate: float, plan: Procedure, seed: int, *, longer: int = 1) -> Trial:
    seconds = longer * min(max(_LEAST_SECONDS, _ARRIVALS / rate), _MOST_SECONDS)
    answer = worker.serve(case, rate, seconds, seed)
    latencies = np.array([*answer["latencies"], *[np.inf] * answer["unfinished"]])
    # Of the samples themselves: between a number and infinity there is nothing to interpolate.
    p50, p99 = np.percentile(latencies, (50, 99), method="higher") * 1e3
    return Trial(
        rate=rate,
        texts=len(latencies),
        p50_ms=_finite(p50),
        p99_ms=_finite(p99),
        holds=bool(p99 <= plan.latency_bound_ms),
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
