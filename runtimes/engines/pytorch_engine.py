"""The PyTorch engine: the reference itself on a CPU or a CUDA device; in 16 bits it computes no padding."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ringkas.artifact import Artifact
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.errors import ArtifactError, MissingExtra
from ringkas.runtimes.engine import Engine, Vectors
from ringkas.tokens import TokenBatch

if TYPE_CHECKING:
    from ringkas.runtimes.engines.pytorch_packed import PackedRunner
    from ringkas.runtimes.reference import Reference


# By the names that PyTorch gives them. The 16-bit ones run packed.
DTYPES = ("float32", "bfloat16", "float16")
# A GPU is slow on small batches; beyond this one is no faster, and the activations cost memory.
_CUDA_BATCH_TOKENS = 16_384


class PyTorchEngine(Engine):
    """Runs a checkpoint, in float32 unless another `dtype` is asked for.

    In bfloat16 or float16 no padding is computed, and on CUDA every batch is one captured graph; but for
    families whose attention transformers cannot exchange, which pad.
    `threads` sets PyTorch's own count, which is one for the process.

    Raises:
        ArtifactError: no such dtype, or the device is not there.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        threads: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> None:
        super().__init__(checkpoint.spec.dimension, checkpoint.spec.max_length)
        try:
            import torch
        except ModuleNotFoundError:
            raise MissingExtra("torch", "pytorch") from None
        if dtype not in (None, *DTYPES):
            raise ArtifactError(
                f"PyTorch cannot compute an encoder in {dtype!r}", fix=f"Choose one of: {', '.join(DTYPES)}"
            )
        if threads is not None:
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = _device(torch, device)
        if self._device.startswith("cuda"):
            self.batch_tokens = _CUDA_BATCH_TOKENS
        self._packed: PackedRunner | None = None
        self._reference = self._load(checkpoint, dtype or "float32")
        self.unused = self._reference.unused

    def _load(self, checkpoint: Checkpoint, dtype: str) -> Reference:
        from ringkas.runtimes.engines import pytorch_packed
        from ringkas.runtimes.reference import load_reference

        precision = getattr(self._torch, dtype)
        # Attention that is computed past the interface would see the texts beside its own.
        if dtype == "float32" or checkpoint.family.biased_attention:
            return load_reference(checkpoint, dtype=precision).to(self._device)
        pytorch_packed.register()
        reference = load_reference(checkpoint, dtype=precision, attention=pytorch_packed.ATTENTION)
        reference = reference.to(self._device)
        first = checkpoint.family.position_offset(checkpoint.config)
        self._packed = pytorch_packed.PackedRunner(reference, first)
        return reference

    def run_many(self, batches: Iterable[TokenBatch]) -> Iterator[Vectors]:
        """While the device computes one batch, the next is packed, copied and queued."""
        if self._packed is None:
            yield from super().run_many(batches)
            return
        waiting: deque[tuple[TokenBatch, Callable[[], Vectors]]] = deque()
        for batch in batches:
            self._check_length(batch)
            waiting.append((batch, self._packed.start(batch)))
            if len(waiting) > 1:
                started, wait = waiting.popleft()
                yield self._checked(started, wait())
        for started, wait in waiting:
            yield self._checked(started, wait())

    def _close(self) -> None:
        del self._reference

    def _run(self, batch: TokenBatch) -> Vectors:
        return self._forward(batch, 1) if self._packed is None else self._packed.start(batch)()

    def _token_vectors(self, batch: TokenBatch) -> Vectors:
        return self._forward(batch, 0) if self._packed is None else self._packed.token_vectors(batch)

    def _forward(self, batch: TokenBatch, output: int) -> Vectors:
        torch = self._torch
        with torch.inference_mode():
            ids = torch.from_numpy(batch.input_ids).to(self._device)
            mask = torch.from_numpy(batch.attention_mask).to(self._device)
            try:
                return np.asarray(self._reference(ids, mask)[output].cpu().numpy())
            except (IndexError, ValueError) as error:  # an id for which a table has no row
                raise ArtifactError(
                    "PyTorch could not run a batch", why=str(error).partition("\n")[0]
                ) from None


def _device(torch: Any, asked: str | None) -> str:
    """The device to run on; CUDA where it is there and nothing else was asked for.

    Raises:
        ArtifactError: the device that was asked for is not there.
    """
    if asked is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=asked)
    except (AssertionError, RuntimeError) as error:  # without CUDA in the package it is an assertion
        raise ArtifactError(
            f"PyTorch cannot use the device {asked!r}",
            why=str(error).splitlines()[0],
            fix="Choose cpu, install the PyTorch for this machine's CUDA, or leave the device out",
        ) from None
    return asked


def open_engine(
    artifact: Artifact, threads: int | None, device: str | None, dtype: str | None = None
) -> Engine:
    """The engine of a `pytorch-fp32` artifact: its folder is an ordinary checkpoint."""
    return PyTorchEngine(open_checkpoint(artifact.path), threads, device, dtype)
