"""A process that does jobs for the campaign: one that dies, hangs or swells is an outcome, not the end."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from attack.record import CRASH, HANG

_HERE = Path(__file__).resolve().parent
_WORKER = "from attack.worker import main; main()"


# A worker that computes, but less than half the time: a busy machine. It gets so many times as long.
_PATIENCE, _IDLE = 10, 0.01


class Child:
    """Does one job after another; started anew when it ended over one."""

    def __init__(self, seconds: float = 30, code: str = _WORKER) -> None:
        self._seconds, self._code = seconds, code
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by leaving)

    def ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
        """What the worker says of a job; a crash or a hang where it says nothing."""
        process = self._process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return self._ended(process)
        if not self._answers(process):
            self.close()
            return {"outcome": HANG, "message": f"no answer in {self._seconds} s"}
        line = process.stdout.readline()
        if not line:
            return self._ended(process)
        answer: dict[str, Any] = json.loads(line)
        if answer.get("last"):
            self.close()
        return answer

    def _answers(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether it says something in time. One that others keep from computing has not had its time."""
        before = _cpu_seconds(process.pid)
        for _ in range(_PATIENCE):
            if select.select([process.stdout], [], [], self._seconds)[0]:
                return True
            spent = _cpu_seconds(process.pid) - before
            if not _IDLE * self._seconds < spent < self._seconds / 2:
                return False
        return False

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            for pipe in (self._process.stdin, self._process.stdout):
                with suppress(BrokenPipeError):  # what was still to be said to it
                    assert pipe is not None
                    pipe.close()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._errors.close()

    def _ended(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        self.close()
        status = process.returncode
        self._errors.seek(0)
        said = self._errors.read()[-400:].decode("utf-8", "replace")
        name = signal.Signals(-status).name if status < 0 else f"status {status}"
        return {"outcome": CRASH, "message": f"{name}: {said}"}

    def _start(self) -> subprocess.Popen[bytes]:
        self._errors.seek(0)
        self._errors.truncate()
        process = subprocess.Popen(
            [sys.executable, "-c", self._code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment(),
        )
        assert process.stdout is not None
        process.stdout.readline()  # it is ready: what it imports takes no job's time
        return process


def _cpu_seconds(process: int) -> float:
    with suppress(psutil.NoSuchProcess):
        times = psutil.Process(process).cpu_times()
        return times.user + times.system
    return 0.0


def fork() -> int:
    """`os.fork`; that threads do not come along, which newer Pythons warn of, is what is tried here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def environment() -> dict[str, str]:
    """The environment of this process, with the campaign and the tree at hand to import from."""
    paths = [str(_HERE.parent), str(_HERE.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "RUST_BACKTRACE": "0",
    }
