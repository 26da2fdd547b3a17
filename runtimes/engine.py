"""What every engine is: ids in, vectors out. The base validates; an engine adds one small method."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from ringkas.errors import ArtifactError
from ringkas.tokens import TokenBatch

Vectors = npt.NDArray[np.float32]


def usable_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Engine(ABC):
    """Runs batches of token ids. A context manager; `run` may be called from several threads.

    It belongs to the process that opened it: threads and locks of an engine do not come along through a
    fork, so that a call in the child would wait for ever. There `run` raises, and `close` does nothing.

    Args:
        dimension: the length of one vector.
        max_length: the longest sequence, in tokens, that the engine may be given.
    """

    # Padded tokens in one batch. On a CPU larger batches gain nothing (benchmarks/batch_tokens.py): the
    # matrix products are already wide enough, and the activations fall out of the cache.
    batch_tokens = 512
    # Whether a forked process may go on with it.
    survives_fork = False

    def __init__(self, dimension: int, max_length: int) -> None:
        self.dimension = dimension
        self.max_length = max_length
        self._process = os.getpid()
        self._closed = False

    def run(self, batch: TokenBatch) -> Vectors:
        """Pooled vectors, float32 of shape (batch, dimension), normalised when the artifact says so.

        Raises:
            ArtifactError: the engine gave another shape or a value that is not finite, is closed, or belongs
                to the process that this one was forked from.
        """
        self.check_usable()
        self._check_length(batch)
        return self._checked(batch, self._run(batch))

    def run_many(self, batches: Iterable[TokenBatch]) -> Iterator[Vectors]:
        """As `run`, one after another; where a GPU computes, the next batch is made ready meanwhile."""
        return map(self.run, batches)

    def prepare_many(self) -> None:  # noqa: B027 (most engines run many as they run one)
        """Makes ready for long runs of `run_many`, so that all of one goes the same way."""

    def _checked(self, batch: TokenBatch, vectors: Vectors) -> Vectors:
        expected = (batch.input_ids.shape[0], self.dimension)
        if vectors.shape != expected or vectors.dtype != np.float32:
            raise ArtifactError(
                f"the engine returned {vectors.dtype} {vectors.shape}, not float32 {expected}",
                fix="Build the artifact again",
            )
        if not np.isfinite(vectors).all():
            raise ArtifactError(
                "the engine returned values that are not finite",
                why="the weights are damaged, or overflow in this precision",
                fix="Run ringkas verify on the artifact, or choose a wider precision",
            )
        return vectors

    def token_vectors(self, batch: TokenBatch) -> Vectors:
        """The last hidden state, float32 of shape (batch, sequence, hidden), for pooling outside."""
        self.check_usable()
        self._check_length(batch)
        return self._token_vectors(batch)

    def check_usable(self) -> None:
        """Raises `ArtifactError` after `close`, and in a process that was forked from the engine's own."""
        if self._closed:
            raise ArtifactError("the encoder is closed", fix="Load the artifact again")
        if self._process != os.getpid() and not self.survives_fork:
            raise ArtifactError(
                "the encoder was opened by the process that this one was forked from",
                why="an engine's threads do not come along, and it would wait for them for ever",
                fix="Load the artifact in this process, or start it by spawn instead of fork",
            )

    def _check_length(self, batch: TokenBatch) -> None:
        if batch.input_ids.shape[1] > self.max_length:
            raise ArtifactError(
                f"a sequence of {batch.input_ids.shape[1]} tokens is longer than "
                f"the model's {self.max_length}",
                fix="Let the encoder truncate: pass texts, not ids",
            )

    @abstractmethod
    def _run(self, batch: TokenBatch) -> Vectors: ...

    def _token_vectors(self, batch: TokenBatch) -> Vectors:
        raise ArtifactError(
            f"{type(self).__name__} pools inside the model and does not give token vectors",
            fix="Use an ONNX or PyTorch artifact",
        )

    def close(self) -> None:
        """Frees what the engine holds; a call after it is an error. May be repeated."""
        if not self._closed and self._process == os.getpid():
            self._closed = True
            self._close()

    def _close(self) -> None:  # noqa: B027 (most engines hold nothing that outlives them)
        """Frees what this kind of engine holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
