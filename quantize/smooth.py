"""Static ranges: a shift and a scale for each channel that make one range fit all of them.

The LayerNorm outputs of a BERT have a few channels that stand far off zero on every token. The shift takes
that constant out, and the weights' own bias gives it back; what is left of the channels' differences is
shared between activation and weight (SmoothQuant: Xiao et al., 2022, arXiv:2211.10438).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ringkas.quantize.calibrate import Inputs

LEVELS = 255
_LEAST = 1e-5


@dataclass(frozen=True)
class Affine:
    """x becomes (x - shift) * factor, then round(./scale) + zero_point in 0..255. Channels, then scalars."""

    shift: Tensor
    factor: Tensor
    scale: float
    zero_point: int


def centred(inputs: Inputs, widest_weight: Tensor, smoothing: float, margin: float) -> Affine:
    """Each channel around the middle of its range; `widest_weight` is (in,), over all that share it."""
    shift = (inputs.low + inputs.high) / 2
    reach = (inputs.high - inputs.low) / 2
    spread = reach.clamp(min=_LEAST) ** smoothing / widest_weight.clamp(min=_LEAST) ** (1 - smoothing)
    factor = spread.median() / spread
    top = float((reach * factor).max()) * margin
    return Affine(shift, factor, max(2 * top, _LEAST) / LEVELS, (LEVELS + 1) // 2)


def plain(inputs: Inputs, margin: float) -> Affine:
    """One asymmetric range for all channels, as they are."""
    low, high = min(float(inputs.low.min()), 0.0) * margin, max(float(inputs.high.max()), 0.0) * margin
    scale = max(high - low, _LEAST) / LEVELS
    return Affine(torch.zeros_like(inputs.low), torch.ones_like(inputs.low), scale, round(-low / scale))


def transformed(inputs: Inputs, affine: Affine) -> Inputs:
    """The statistics of the input after shift and factor."""
    shift, factor = affine.shift, affine.factor
    square = inputs.covariance.dim() == 2
    return Inputs(
        (inputs.low - shift) * factor,
        (inputs.high - shift) * factor,
        (inputs.mean - shift) * factor,
        inputs.covariance * (torch.outer(factor, factor) if square else factor.square()),
        inputs.tokens,
    )
