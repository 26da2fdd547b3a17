"""The importance matrix of llama.cpp's quantizer: how large each input of each linear layer is on real text.

llama.cpp's search for a block's scale then weighs the squared error of each weight by the mean square of what
it is multiplied with, instead of by the weight alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkas.checkpoint import Checkpoint
from ringkas.quantize.for_gguf.inputs import Batch, calibration_batches, calibration_source, layers_of

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Importance:
    """By transformers' tensor name: the mean square of each input channel, float32 of shape (inputs,).

    `report` is JSON-able: which texts, and how many tokens.
    """

    by_tensor: Mapping[str, npt.NDArray[np.float32]]
    report: Mapping[str, Any]


def measure_importance(checkpoint: Checkpoint) -> Importance:
    """Mean squares over the tokens of the built-in calibration texts, in the unquantized encoder."""
    import torch

    from ringkas.runtimes.reference import load_reference

    encoder = load_reference(checkpoint).encoder
    by_tensor: dict[str, npt.NDArray[np.float32]] = {}
    with torch.inference_mode():
        batches = calibration_batches(checkpoint, encoder)
        tokens = int(sum(batch.mask.sum() for batch in batches))
        sums = _sums_of_squares(encoder, batches)
    for layer in layers_of(encoder):
        for stage in layer.stages:
            mean = (sums[f"{layer.name}.{stage[0]}"] / tokens).float().numpy()
            by_tensor.update({f"{layer.name}.{name}.weight": mean for name in stage})
    report = {
        "method": "importance matrix",
        "what it changes": "the rounding alone: every tensor has the type that it has without one",
        "texts": calibration_source(checkpoint),
        "languages": list(checkpoint.languages),
        "sentences": sum(len(batch.ids) for batch in batches),
        "tokens": tokens,
    }
    return Importance(by_tensor, report)


def _sums_of_squares(encoder: Any, batches: Sequence[Batch]) -> dict[str, torch.Tensor]:
    """By the first linear layer of each that share an input: the sum over all tokens, of shape (inputs,)."""
    sums: dict[str, torch.Tensor] = {}
    mask = batches[0].mask

    def listen(name: str, linear: Any) -> Any:
        def add(module: Any, arguments: tuple[torch.Tensor, ...]) -> None:
            inputs = arguments[0].reshape(*mask.shape, -1)[mask.bool()].double()
            sums[name] = sums.get(name, 0) + inputs.square().sum(0)

        return linear.register_forward_pre_hook(add)

    handles = [
        listen(f"{layer.name}.{stage[0]}", layer.linear(stage[0]))
        for layer in layers_of(encoder)
        for stage in layer.stages
    ]
    try:
        for batch in batches:
            mask = batch.mask
            encoder(input_ids=batch.ids, attention_mask=mask)
    finally:
        for handle in handles:
            handle.remove()
    return sums
