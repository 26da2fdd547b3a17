"""What every engine is: ids in, vectors out. The base validates; an engine adds one small method."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from ringkas.errors import ArtifactError
from ringkas.tokens import TokenBatch

Vectors = npt.NDArray[np.float32]


class Engine(ABC):
    """Runs batches of token ids. A context manager; `run` may be called from several threads.

    Args:
        dimension: the length of one vector.
        max_length: the longest sequence, in tokens, that the engine may be given.
    """

    # Padded tokens in one batch. On a CPU larger batches gain nothing (benchmarks/batch_tokens.py): the
    # matrix products are already wide enough, and the activations fall out of the cache.
    batch_tokens = 512

    def __init__(self, dimension: int, max_length: int) -> None:
        self.dimension = dimension
        self.max_length = max_length

    def run(self, batch: TokenBatch) -> Vectors:
        """Pooled vectors, float32 of shape (batch, dimension), normalised when the artifact says so.

        Raises:
            ArtifactError: the engine gave another shape or a value that is not finite.
        """
        self._check_length(batch)
        return self._checked(batch, self._run(batch))

    def run_many(self, batches: Iterable[TokenBatch]) -> Iterator[Vectors]:
        """As `run`, one after another; where a GPU computes, the next batch is made ready meanwhile."""
        return map(self.run, batches)

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
        self._check_length(batch)
        return self._token_vectors(batch)

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

    def close(self) -> None:  # noqa: B027 (most engines hold nothing that outlives them)
        """Frees what the engine holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
