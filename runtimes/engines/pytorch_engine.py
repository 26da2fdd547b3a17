"""The PyTorch engine: the reference itself, on the CPU or, when there is one, a CUDA device."""

from __future__ import annotations

from typing import Any

import numpy as np

from ringkas.artifact import Artifact
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.errors import ArtifactError, MissingExtra
from ringkas.runtimes.engine import Engine, Vectors
from ringkas.tokens import TokenBatch


class PyTorchEngine(Engine):
    """Runs a checkpoint in float32. `threads` sets PyTorch's own count, which is one for the process."""

    def __init__(self, checkpoint: Checkpoint, threads: int | None = None, device: str | None = None) -> None:
        super().__init__(checkpoint.spec.dimension, checkpoint.spec.max_length)
        try:
            import torch
        except ModuleNotFoundError:
            raise MissingExtra("torch", "pytorch") from None
        from ringkas.runtimes.reference import load_reference

        if threads is not None:
            torch.set_num_threads(threads)
        self._torch = torch
        self._device = _device(torch, device)
        self._reference = load_reference(checkpoint).to(self._device)

    def _run(self, batch: TokenBatch) -> Vectors:
        return self._forward(batch, 1)

    def _token_vectors(self, batch: TokenBatch) -> Vectors:
        return self._forward(batch, 0)

    def _forward(self, batch: TokenBatch, output: int) -> Vectors:
        torch = self._torch
        with torch.inference_mode():
            ids = torch.from_numpy(batch.input_ids).to(self._device)
            mask = torch.from_numpy(batch.attention_mask).to(self._device)
            return np.asarray(self._reference(ids, mask)[output].cpu().numpy())


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


def open_engine(artifact: Artifact, threads: int | None, device: str | None) -> Engine:
    """The engine of a `pytorch-fp32` artifact: its folder is an ordinary checkpoint."""
    return PyTorchEngine(open_checkpoint(artifact.path), threads, device)
