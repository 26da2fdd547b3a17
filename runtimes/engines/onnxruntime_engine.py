"""The ONNX Runtime engine: CUDA when the installed package has it and a device is there, else the CPU."""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ringkas.artifact import Artifact
from ringkas.errors import ArtifactError
from ringkas.extras import load_onnxruntime
from ringkas.forks import ForkSafeLock
from ringkas.runtimes.engine import Engine, Vectors, usable_cores
from ringkas.runtimes.engines.onnx_check import check_graph
from ringkas.spec import SENTENCE_OUTPUT, TOKEN_OUTPUT
from ringkas.tokens import TokenBatch

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
_ERRORS_ONLY = 3
# Fused, a residual addition and its LayerNormalization take longer on a CPU than apart: 8% of all the time at
# 163 tokens, nothing at 26 (benchmarks/session_options.py). On CUDA the fused kernel is the fast one.
_SLOW_ON_CPU = ["SkipLayerNormFusion"]
# The threads of an operator wait for each other at its end. Many batches are faster side by side, each on
# one thread: a tenth to a sixth more texts a second on two cores (benchmarks/side_by_side.py), and more where
# another thread wants a core too. A call of fewer tokens is over before the other session is open.
_MANY_TOKENS = 32_768
# That session has weights of its own: of larger models it is not opened.
_LARGEST_TWICE = 640 << 20


class OrtEngine(Engine):
    """Runs a graph with inputs `input_ids`, `attention_mask` and output `sentence_embedding`.

    `threads` is the number of threads that one operator uses; None leaves it to ONNX Runtime (one per core).
    """

    def __init__(self, artifact: Artifact, threads: int | None = None, device: str | None = None) -> None:
        spec = artifact.manifest.encoding
        super().__init__(spec.dimension, spec.max_length)
        check_graph(artifact.model_path)
        self._model, self._threads = artifact.model_path, threads
        self._session = open_session(self._model, threads, device)
        self._session_process = self._process
        self.survives_fork = self._session.get_providers() == [_PROVIDERS["cpu"]]
        self._narrow: Any = None
        self._lock = ForkSafeLock()
        twice = self.survives_fork and _bytes(artifact) < _LARGEST_TWICE
        self._workers = (threads or usable_cores()) if twice else 1

    def prepare_many(self) -> None:
        """Opens the session of one thread that several batches at a time run in."""
        with self._lock:
            if self._workers > 1 and self._narrow is None:
                self._narrow = open_session(self._model, 1, "cpu")

    def run_many(self, batches: Iterable[TokenBatch]) -> Iterator[Vectors]:
        """As `run`, in order; of a long run several batches at a time, each on one thread."""
        remaining, begun = iter(batches), 0
        for batch in remaining:
            following = next(remaining, None) if self._narrow is not None else None
            if following is not None:
                yield from self._side_by_side(chain((batch, following), remaining))
                return
            yield self.run(batch)
            begun += batch.input_ids.size
            if begun > _MANY_TOKENS:
                self.prepare_many()

    def _side_by_side(self, batches: Iterable[TokenBatch]) -> Iterator[Vectors]:
        waiting: deque[tuple[TokenBatch, Future[Vectors]]] = deque()
        with ThreadPoolExecutor(self._workers, "ringkas-batch") as pool:
            try:
                for batch in batches:
                    self.check_usable()
                    self._check_length(batch)
                    waiting.append((batch, pool.submit(self._output, batch, SENTENCE_OUTPUT, self._narrow)))
                    if len(waiting) > self._workers:
                        started, future = waiting.popleft()
                        yield self._checked(started, future.result())
                for started, future in waiting:
                    yield self._checked(started, future.result())
            finally:
                pool.shutdown(cancel_futures=True)

    def _run(self, batch: TokenBatch) -> Vectors:
        return self._output(batch, SENTENCE_OUTPUT)

    def _token_vectors(self, batch: TokenBatch) -> Vectors:
        return self._output(batch, TOKEN_OUTPUT)

    def _output(self, batch: TokenBatch, name: str, session: Any = None) -> Vectors:
        feed = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        try:
            return np.asarray((session or self._own_session()).run([name], feed)[0])
        except Exception as error:  # a type for each status: an id without a row, shapes that do not fit
            if not type(error).__module__.startswith("onnxruntime"):
                raise  # a signal's handler raised it, or the memory is full
            raise ArtifactError("ONNX Runtime could not run a batch", why=_first_line(error)) from None

    def _own_session(self) -> Any:
        """The session; in a forked process one of its own, for the threads of the parent's stayed there."""
        if self._session_process != os.getpid() and self._threads != 1:
            with self._lock:
                if self._session_process != os.getpid():
                    # The parent's is kept: to free it would be to wait for its threads.
                    self._parents = self._session
                    self._session = open_session(self._model, self._threads, "cpu")
                    self._session_process = os.getpid()
        return self._session

    def _close(self) -> None:
        self._session = self._narrow = None


def open_session(model: Path, threads: int | None = None, device: str | None = None) -> Any:
    """An `onnxruntime.InferenceSession` with this project's options.

    Raises:
        MissingExtra: onnxruntime is not installed.
        RingkasError: it is broken, the graph cannot be loaded, or the device is not there.
    """
    onnxruntime = load_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.inter_op_num_threads = 1  # the graph is one chain: there is nothing to run beside it
    if threads is not None:
        options.intra_op_num_threads = threads
    providers = _providers(onnxruntime.get_available_providers(), device)
    try:
        session = _session(onnxruntime, model, options, providers)
    except Exception as error:  # ONNX Runtime raises a type for each of its status codes
        cpu = [_PROVIDERS["cpu"]]
        if providers == cpu or device is not None:
            raise _cannot_load(model, error) from None
        # ONNX Runtime would fall back by itself, but say so on stdout, which belongs to vectors and reports.
        print(f"ringkas: the CPU is used, for {providers[0]} failed: {_first_line(error)}", file=sys.stderr)
        try:
            session = _session(onnxruntime, model, options, cpu)
        except Exception as again:
            raise _cannot_load(model, again) from None
    if device is not None and _PROVIDERS[device] not in session.get_providers():
        raise ArtifactError(
            f"the device {device!r} could not be started",
            why="ONNX Runtime fell back to the CPU",
            fix="Check the driver, or leave the device out",
        )
    return session


def _session(onnxruntime: Any, model: Path, options: Any, providers: list[str]) -> Any:
    return onnxruntime.InferenceSession(
        str(model),
        options,
        providers=providers,
        disabled_optimizers=_SLOW_ON_CPU if providers == [_PROVIDERS["cpu"]] else None,
        enable_fallback=0,
    )


def _cannot_load(model: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"ONNX Runtime cannot load {model}",
        why=_first_line(error),
        fix="Build the artifact again, or upgrade onnxruntime",
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _providers(available: list[str], device: str | None) -> list[str]:
    if device is not None and device not in _PROVIDERS:
        raise ArtifactError(f"there is no device {device!r}", fix="Choose from: " + ", ".join(_PROVIDERS))
    wanted = [device] if device else list(_PROVIDERS)
    chosen = [_PROVIDERS[name] for name in wanted if _PROVIDERS[name] in available]
    if not chosen:
        raise ArtifactError(
            f"the installed onnxruntime has no provider for the device {device!r}",
            fix="For CUDA run: pip uninstall onnxruntime; pip install 'ringkas[onnx-gpu]'",
        )
    return chosen if "CPUExecutionProvider" in chosen else [*chosen, "CPUExecutionProvider"]


def _bytes(artifact: Artifact) -> int:
    return sum(file.stat().st_size for file in artifact.model_path.parent.iterdir() if file.is_file())


def open_engine(artifact: Artifact, threads: int | None, device: str | None) -> Engine:
    """The engine of an ONNX artifact."""
    return OrtEngine(artifact, threads, device)
