"""A process that holds one subject and answers one JSON line with another: the measuring side of it.

What it may be asked: `warm_up`, `time`, `encode`, `serve`. Any command that speaks these lines can be
measured (benchmarks/peers/worker.py); measure_worker.py is the one for this project's artifacts.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from ringkas.errors import RingkasError
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.measure.cases import Case
from ringkas.runtimes.measure.machine import Memory, cpu_seconds, memory_of

_OWN_WORKER = (sys.executable, "-m", "ringkas.runtimes.measure.worker_process")


@dataclass(frozen=True)
class Subject:
    """What a worker loads: an artifact folder, the PyTorch reference of a model, or a command's own.

    `command` starts a process that speaks the worker's lines; `model` is handed to it. `size` is the bytes
    on disk of what it loads, where somebody knows them.
    """

    name: str
    artifact: Path | None = None
    reference: str | None = None
    command: tuple[str, ...] = ()
    model: str | None = None
    size: int | None = None

    def start(self, threads: int | None) -> list[str]:
        """The command line of its worker."""
        if self.command:
            return [*self.command, json.dumps({"model": self.model, "threads": threads})]
        artifact = str(self.artifact) if self.artifact else None
        spec = {"artifact": artifact, "reference": self.reference, "threads": threads}
        return [*_OWN_WORKER, json.dumps(spec)]


@dataclass(frozen=True)
class Timed:
    """Samples of one case in one round, and the processor seconds and wall seconds that they took."""

    samples: list[dict[str, float]]
    cpu_s: float | None
    wall_s: float


class Worker:
    """Starts the process and waits for its first vector: `load_s` by its own clock, `cold_s` by ours.

    Raises:
        RingkasError: the process died; the last line that it said is in the message.
    """

    def __init__(self, subject: Subject, threads: int | None) -> None:
        self.subject = subject
        self.name = subject.name
        # A file, not a pipe: nobody reads it while the worker runs.
        self._errors = TemporaryFile()  # noqa: SIM115 (closed by close())
        started = time.perf_counter()
        try:
            self._process = subprocess.Popen(
                subject.start(threads),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                env={**os.environ, "TOKENIZERS_PARALLELISM": "true"},
            )
        except OSError as error:
            self._errors.close()
            raise RingkasError(f"measuring {self.name} failed", why=f"cannot start it: {error}") from None
        try:
            self.ready = self._read()
            self.load_s = float(self.ready["load_s"])
        except BaseException:
            self.close()
            raise
        self.cold_s = time.perf_counter() - started

    def warm_up(self, case: Case) -> None:
        self._ask({"do": "warm_up", "case": case.name, "texts": case.texts, "each": case.one_at_a_time})

    def time(self, case: Case, seconds: float) -> Timed:
        """The case again and again for about so many seconds."""
        before, started = cpu_seconds(self._process.pid), time.perf_counter()
        answer = self._ask({"do": "time", "case": case.name, "seconds": seconds, "each": case.one_at_a_time})
        wall, after = time.perf_counter() - started, cpu_seconds(self._process.pid)
        spent = None if before is None or after is None else after - before
        return Timed(answer["samples"], spent, wall)

    def encode(self, texts: tuple[str, ...]) -> Vectors:
        """Float32 of shape (n, dimension)."""
        answer = self._ask({"do": "encode", "texts": texts})
        values = np.frombuffer(base64.b64decode(answer["vectors"]), dtype="<f4")
        return np.asarray(values.reshape(answer["shape"]), dtype=np.float32)

    def serve(self, case: Case, rate: float, seconds: float, seed: int) -> dict[str, Any]:
        """The case's texts arriving at random, `rate` a second; see measure_worker.py for the answer."""
        return self._ask({"do": "serve", "case": case.name, "rate": rate, "seconds": seconds, "seed": seed})

    def memory(self) -> Memory | None:
        return memory_of(self._process.pid)

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None:
                with suppress(BrokenPipeError):  # it died with a request unread
                    stream.close()
        self._process.wait()

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died: _read says why
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        with suppress(json.JSONDecodeError):
            answer: dict[str, Any] = json.loads(line)
            return answer
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode("utf-8", errors="replace").strip().splitlines()
        why = f"it answered {line.strip()[:80]!r}" if line else said[-1] if said else "its process died"
        raise RingkasError(f"measuring {self.name} failed", why=why)
