"""Measurement: each engine in a process of its own, rounds interleaved, medians with intervals.

Engines side by side in one process distort each other, because idle thread pools spin; and a shared machine
drifts. So every subject has its own worker (measure_worker.py), all stay loaded, and the rounds go round:
whatever the machine does, it does to all alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec
import numpy as np

from ringkas.errors import RingkasError
from ringkas.progress import QUIET, Progress
from ringkas.tokens import TextTokenizer

# Token counts that single texts are picked for, as near as the text set has them.
LENGTHS = (8, 32, 128)
OFFLINE = "offline"

_CONFIDENCE_Z = 1.96


@dataclass(frozen=True)
class Subject:
    """What a worker loads: an artifact folder, or the PyTorch reference of a model."""

    name: str
    artifact: Path | None = None
    reference: str | None = None


@dataclass(frozen=True)
class Case:
    """Texts that are encoded in one call, and how many tokens they have (special tokens included)."""

    name: str
    texts: tuple[str, ...]
    tokens: int


@dataclass(frozen=True)
class Plan:
    """How long to measure. `seconds` is per subject, case and round."""

    rounds: int = 5
    seconds: float = 0.3
    threads: int | None = None


class Interval(msgspec.Struct, frozen=True):
    """A median in milliseconds, its 95% confidence interval (by order statistics), and percentiles."""

    median: float
    low: float
    high: float
    p90: float
    p99: float
    samples: int


class Timing(msgspec.Struct, frozen=True):
    """One subject on one case: the whole call, and its two parts."""

    case: str
    texts: int
    tokens: int
    total: Interval
    tokenise: Interval
    run: Interval

    @property
    def texts_per_second(self) -> float:
        return 1000 * self.texts / self.total.median


class Measured(msgspec.Struct, frozen=True):
    """One subject. `cold_s`: from starting its process to its first vector; memory is the process's peak."""

    name: str
    cold_s: float
    load_s: float
    peak_bytes: int
    timings: tuple[Timing, ...]


def single_text_cases(
    tokenizer: TextTokenizer, texts: Sequence[str], lengths: Sequence[int] = LENGTHS
) -> list[Case]:
    """For each length, the text of `texts` whose token count is nearest to it."""
    counts = np.array([len(ids) for ids in tokenizer.encode(texts)])
    nearest = [int(np.abs(counts - length).argmin()) for length in lengths]
    return [Case(f"{counts[row]} tokens", (texts[row],), int(counts[row])) for row in dict.fromkeys(nearest)]


def offline_case(tokenizer: TextTokenizer, texts: Sequence[str]) -> Case:
    """All the texts in one call."""
    return Case(OFFLINE, tuple(texts), sum(len(ids) for ids in tokenizer.encode(texts)))


def measure(
    subjects: Sequence[Subject], cases: Sequence[Case], plan: Plan, progress: Progress = QUIET
) -> list[Measured]:
    """Times every subject on every case.

    Raises:
        RingkasError: a worker died; what it said is in the message.
    """
    workers: list[_Worker] = []
    try:
        for subject in subjects:
            progress.say(f"loading {subject.name} in a process of its own")
            workers.append(_Worker(subject, plan.threads))
        samples: dict[tuple[str, str], list[dict[str, float]]] = {}
        for case in cases:
            for worker in workers:
                worker.warm_up(case)
        for number in range(plan.rounds):
            progress.say(f"measuring, round {number + 1} of {plan.rounds}")
            for case in cases:
                for worker in workers:
                    found = worker.time(case, plan.seconds)
                    samples.setdefault((worker.name, case.name), []).extend(found)
        return [
            Measured(
                worker.name,
                worker.cold_s,
                worker.load_s,
                worker.peak_bytes(),
                tuple(_timing(case, samples[worker.name, case.name]) for case in cases),
            )
            for worker in workers
        ]
    finally:
        for worker in workers:
            worker.close()


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


def _timing(case: Case, samples: Sequence[Mapping[str, float]]) -> Timing:
    parts = {name: interval([sample[name] for sample in samples]) for name in ("total", "tokenise", "run")}
    return Timing(case.name, len(case.texts), case.tokens, parts["total"], parts["tokenise"], parts["run"])


class _Worker:
    """A process that holds one subject and answers one JSON line with another."""

    def __init__(self, subject: Subject, threads: int | None) -> None:
        self.name = subject.name
        spec = {
            "artifact": str(subject.artifact) if subject.artifact else None,
            "reference": subject.reference,
            "threads": threads,
        }
        # A file, not a pipe: nobody reads it while the worker runs.
        self._errors = TemporaryFile()  # noqa: SIM115 (closed by close())
        started = time.perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "ringkas.runtimes.measure_worker", json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "true"},
        )
        try:
            self.load_s = float(self._read()["load_s"])
        except BaseException:
            self.close()
            raise
        self.cold_s = time.perf_counter() - started

    def warm_up(self, case: Case) -> None:
        self._ask({"do": "warm_up", "case": case.name, "texts": case.texts})

    def time(self, case: Case, seconds: float) -> list[dict[str, float]]:
        samples: list[dict[str, float]] = self._ask({"do": "time", "case": case.name, "seconds": seconds})[
            "samples"
        ]
        return samples

    def peak_bytes(self) -> int:
        return int(self._ask({"do": "memory"})["peak_bytes"])

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(BrokenPipeError):  # it died with a request unread
                    stream.close()
        self._process.wait()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died: _read says why
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", errors="replace").strip().splitlines()
        raise RingkasError(f"measuring {self.name} failed", why=said[-1] if said else "its process died")
