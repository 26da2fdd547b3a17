"""Measurement: each engine in a process of its own, rounds interleaved, medians with intervals.

Engines side by side in one process distort each other, because idle thread pools spin; and a shared machine
drifts. So every subject has its own worker (worker.py), all stay loaded, and the rounds go round: whatever
the machine does, it does to all alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import numpy as np

from ringkas.progress import QUIET, Progress
from ringkas.runtimes.measure.cases import OFFLINE, SINGLE_STREAM, Case, Scenario
from ringkas.runtimes.measure.intervals import Interval, interval
from ringkas.runtimes.measure.machine import EnergyMeter, Memory
from ringkas.runtimes.measure.worker import Subject, Worker

_PARTS = ("tokenise", "run", "engine")


@dataclass(frozen=True)
class Procedure:
    """How to measure.

    Args:
        rounds: how often it goes round; a ratio's interval needs two.
        seconds: per subject, case and round.
        threads: of one operator; None leaves it to the engine.
        scenarios: which of single-stream, offline, server.
        latency_bound_ms: the server's 99th percentile must stay below this.
        rate: texts a second that arrive at the server; None searches for the highest that holds the bound.
        seed: of the arrivals.
    """

    rounds: int = 5
    seconds: float = 0.3
    threads: int | None = None
    scenarios: tuple[Scenario, ...] = (SINGLE_STREAM, OFFLINE)
    latency_bound_ms: float = 50.0
    rate: float | None = None
    seed: int = 0


class Timing(msgspec.Struct, frozen=True):
    """One subject on one case.

    `total` is the whole call, of one text in a single stream and of all offline. Its parts, where the worker
    tells them apart: `tokenise`, `run` (all that follows), and within that `engine`, which pools inside its
    graph. `rounds` are the medians of the rounds, in milliseconds; `fastest` the
    quickest call. `cores` is processor time over wall time, `watts` what the whole machine took
    meanwhile, where it can be read.
    """

    case: str
    scenario: Scenario
    texts: int
    tokens: int
    total: Interval
    rounds: tuple[float, ...]
    tokenise: Interval | None = None
    run: Interval | None = None
    engine: Interval | None = None
    cores: float | None = None
    watts: float | None = None
    fastest: float = 0.0

    @property
    def texts_per_call(self) -> int:
        return self.texts if self.scenario == OFFLINE else 1

    @property
    def texts_per_second(self) -> float:
        return 1000 * self.texts_per_call / self.total.median

    @property
    def tokens_per_second(self) -> float:
        return self.texts_per_second * self.tokens / self.texts


class Measured(msgspec.Struct, frozen=True):
    """One subject. `cold_s`: from starting its process to its first vector; `load_s` is its own clock's."""

    name: str
    cold_s: float
    load_s: float
    memory: Memory | None
    timings: tuple[Timing, ...]
    versions: dict[str, str] = {}


def measure(
    subjects: Sequence[Subject], cases: Sequence[Case], plan: Procedure, progress: Progress = QUIET
) -> list[Measured]:
    """Times every subject on every case.

    Raises:
        RingkasError: a worker died; what it said is in the message.
    """
    with open_workers(subjects, plan.threads, progress) as workers:
        schedule = [(worker, case) for case in cases for worker in workers]
        timings = time_rounds(schedule, plan, progress)
        return [measured(worker, timings[worker.name]) for worker in workers]


@contextmanager
def open_workers(
    subjects: Sequence[Subject], threads: int | None, progress: Progress = QUIET
) -> Iterator[list[Worker]]:
    """A process for each subject; all end with the context."""
    workers: list[Worker] = []
    try:
        for subject in subjects:
            progress.say(f"loading {subject.name} in a process of its own")
            workers.append(Worker(subject, threads))
        yield workers
    finally:
        for worker in workers:
            worker.close()


def time_rounds(
    schedule: Sequence[tuple[Worker, Case]], plan: Procedure, progress: Progress = QUIET
) -> dict[str, tuple[Timing, ...]]:
    """The timings of each worker, by its name.

    Every other round goes backwards, so that a steady drift of the machine favours nobody and nobody is
    always behind the same neighbour.
    """
    gathered = {(worker.name, case.name): _Gathered(case) for worker, case in schedule}
    for worker, case in schedule:
        worker.warm_up(case)
    for number in range(plan.rounds):
        progress.say(f"measuring, round {number + 1} of {plan.rounds}")
        for worker, case in schedule if number % 2 == 0 else reversed(schedule):
            gathered[worker.name, case.name].add(worker, plan.seconds)
    timings: dict[str, tuple[Timing, ...]] = {worker.name: () for worker, _ in schedule}
    for (name, _), one in gathered.items():
        timings[name] += (one.timing(),)
    return timings


def measured(worker: Worker, timings: tuple[Timing, ...]) -> Measured:
    """A worker's record, with the memory that it holds by now."""
    return Measured(
        worker.name,
        worker.cold_s,
        worker.load_s,
        worker.memory(),
        timings,
        dict(worker.ready.get("versions") or {}),
    )


@dataclass
class _Gathered:
    """All samples of one subject on one case."""

    case: Case
    by_round: list[list[Mapping[str, float]]] = field(default_factory=list)
    cpu_s: float | None = 0.0
    joules: float | None = 0.0
    wall_s: float = 0.0

    def add(self, worker: Worker, seconds: float) -> None:
        meter = EnergyMeter()
        timed = worker.time(self.case, seconds)
        joules = meter.joules()
        self.by_round.append(list(timed.samples))
        self.cpu_s = None if self.cpu_s is None or timed.cpu_s is None else self.cpu_s + timed.cpu_s
        self.joules = None if self.joules is None or joules is None else self.joules + joules
        self.wall_s += timed.wall_s

    def timing(self) -> Timing:
        samples = [sample for samples in self.by_round for sample in samples]
        parts = {
            name: interval([sample[name] for sample in samples]) if name in samples[0] else None
            for name in _PARTS
        }
        return Timing(
            case=self.case.name,
            scenario=self.case.scenario,
            texts=len(self.case.texts),
            tokens=self.case.tokens,
            total=interval([sample["total"] for sample in samples]),
            rounds=tuple(1e3 * _median(samples) for samples in self.by_round),
            tokenise=parts["tokenise"],
            run=parts["run"],
            engine=parts["engine"],
            cores=None if self.cpu_s is None else self.cpu_s / self.wall_s,
            watts=None if self.joules is None else self.joules / self.wall_s,
            fastest=1e3 * min(sample["total"] for sample in samples),
        )


def _median(samples: Sequence[Mapping[str, float]]) -> float:
    return float(np.median([sample["total"] for sample in samples]))
