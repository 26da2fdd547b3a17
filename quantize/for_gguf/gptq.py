"""Rounding with compensated errors (GPTQ, arXiv 2210.17323) straight into ggml's blocks.

Layer by layer, column by column: each weight is rounded to a level that the block format really has, and its
error is repaid by the columns that are still to come, by the second moments of the layer's inputs on the
built-in calibration texts. The inputs are those that the quantized layers before give, and what is left of
the mean error of each output is taken into the bias.

Moving the weights towards the unquantized outputs first (GPTAQ, arXiv 2504.02692) was tried: on this little
calibration text it fits the text, and held-out texts get worse the further it goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkas.checkpoint import Checkpoint
from ringkas.progress import QUIET, Progress
from ringkas.quantize.for_gguf.blocks import BLOCK, FORMATS, Grid, Scales, pack
from ringkas.quantize.for_gguf.inputs import (
    Batch,
    LayerStep,
    calibration_batches,
    calibration_source,
    first_hidden,
    layers_of,
)

if TYPE_CHECKING:
    import torch


# The share of the mean diagonal that is added to the second moments. 0.02 to 0.1 measure alike.
DAMPING = 0.05


@dataclass
class Calibrated:
    """By transformers' tensor name: finished blocks, changed float tensors; and what was done, JSON-able."""

    blocks: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    floats: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


@dataclass
class Moments:
    """Sums over tokens of one layer's inputs x: x x', x, and the x of the unquantized model."""

    square: torch.Tensor
    total: torch.Tensor
    original_total: torch.Tensor
    tokens: int = 0

    @classmethod
    def zeros(cls, width: int) -> Moments:
        import torch

        return cls(torch.zeros(width, width), torch.zeros(width), torch.zeros(width))

    def add(self, inputs: torch.Tensor, original: torch.Tensor) -> None:
        """Inputs in the quantized and in the original model, both of shape (tokens, width)."""
        self.square += inputs.T @ inputs
        self.total += inputs.sum(0)
        self.original_total += original.sum(0)
        self.tokens += len(inputs)

    def damped(self) -> torch.Tensor:
        """The second moments, made safe to invert."""
        extra = DAMPING * self.square.diagonal().mean().clamp(min=1e-12)
        return self.square + extra * self.square.new_ones(len(self.square)).diag()


def calibrate(
    checkpoint: Checkpoint,
    kinds: Mapping[str, str],
    progress: Progress = QUIET,
) -> Calibrated:
    """Rounds every linear layer of the checkpoint's encoder.

    Args:
        checkpoint: what is quantized, calibrated on its calibration texts.
        kinds: the ggml type of each tensor, by transformers' name.
        progress: where each layer is announced.
    """
    import torch

    from ringkas.runtimes.reference import load_reference

    original = load_reference(checkpoint).encoder
    quantized = load_reference(checkpoint).encoder
    result = Calibrated()
    with torch.inference_mode():
        _round_tables(quantized, kinds)
        batches = calibration_batches(checkpoint, original)
        hidden = [first_hidden(quantized, batch) for batch in batches]
        target = [first_hidden(original, batch) for batch in batches]
        pairs = zip(layers_of(quantized), layers_of(original), strict=True)
        for index, (own, reference) in enumerate(pairs):
            progress.say(f"  layer {index + 1}")
            for stage in own.stages:
                moments = _moments(own, reference, stage, batches, (hidden, target))
                for name in stage:
                    _round_layer(own, name, moments, kinds, result)
            hidden = [own.run(batch, value) for batch, value in zip(batches, hidden, strict=True)]
            target = [reference.run(batch, value) for batch, value in zip(batches, target, strict=True)]
    result.report = {
        "method": "gptq",
        "texts": calibration_source(checkpoint),
        "languages": list(checkpoint.languages),
        "tokens": int(sum(batch.mask.sum() for batch in batches)),
        "damping": DAMPING,
    }
    return result


def _round_tables(encoder: Any, kinds: Mapping[str, str]) -> None:
    """Puts the embedding tables through their formats, so that the layers see what the file will give."""
    import torch

    from ringkas.quantize.for_gguf.ggml import round_trip

    for name, value in encoder.state_dict().items():
        kind = kinds.get(name, "F32")
        if "embeddings" in name and value.ndim == 2 and kind != "F32":
            value.copy_(torch.from_numpy(round_trip(value.numpy(), kind)))


def _moments(
    own: LayerStep,
    reference: LayerStep,
    stage: Sequence[str],
    batches: Sequence[Batch],
    hidden: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]],
) -> Moments:
    moments = Moments.zeros(own.linear(stage[0]).in_features)
    for batch, value, target in zip(batches, *hidden, strict=True):
        moments.add(own.inputs_of(stage[0], batch, value), reference.inputs_of(stage[0], batch, target))
    return moments


def _round_layer(
    layer: LayerStep, name: str, moments: Moments, kinds: Mapping[str, str], result: Calibrated
) -> None:
    full_name = f"{layer.name}.{name}.weight"
    kind = kinds[full_name]
    if kind not in FORMATS:  # a float type, asked for or fallen back to
        return
    linear = layer.linear(name)
    weights = linear.weight.clone()
    with _one_thread():
        blocks, rounded = round_compensated(weights, moments.damped(), kind)
    result.blocks[full_name] = blocks
    linear.weight.copy_(rounded)
    if linear.bias is not None:
        shift = weights @ moments.original_total - rounded @ moments.total
        linear.bias += shift / max(1, moments.tokens)
        result.floats[f"{layer.name}.{name}.bias"] = linear.bias.numpy().copy()


def round_compensated(
    weights: torch.Tensor, moments: torch.Tensor, kind: str
) -> tuple[npt.NDArray[np.uint8], torch.Tensor]:
    """Rounds `weights` (outputs, inputs), given the inputs' damped second moments (inputs, inputs).

    Returns the bytes of the rows and, as a float tensor of the same shape, exactly what they hold.
    """
    import torch

    grid = Grid(kind)
    inverse = torch.linalg.cholesky(torch.linalg.inv(moments.double()), upper=True).float()
    left, rounded = weights.clone(), torch.empty_like(weights)
    parts = []
    for start in range(0, weights.shape[1], BLOCK):
        end = start + BLOCK
        block = left[:, start:end].clone()
        own = inverse[start:end, start:end]
        scales = grid.search(block, own.diagonal().square().reciprocal())
        codes, errors = _round_block(block, own, grid, scales)
        rounded[:, start:end] = grid.values(codes, scales)
        left[:, end:] -= errors @ inverse[start:end, end:]
        parts.append(pack(kind, codes, scales))
    return np.concatenate(parts, axis=1), rounded


def _round_block(
    block: torch.Tensor, inverse: torch.Tensor, grid: Grid, scales: Scales
) -> tuple[torch.Tensor, torch.Tensor]:
    import torch

    codes = torch.empty(block.shape, dtype=torch.int64)
    errors = torch.empty_like(block)
    for column in range(block.shape[1]):
        now = block[:, column : column + 1]
        codes[:, column : column + 1] = grid.codes(now, scales)
        error = (now - grid.values(codes[:, column : column + 1], scales)) / inverse[column, column]
        block[:, column:] -= error * inverse[column, column:]
        errors[:, column : column + 1] = error
    return codes, errors


@contextmanager
def _one_thread() -> Iterator[None]:
    """Thousands of small operations: waiting for each other's threads costs more than the work."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
