"""ggml's 32-weight block formats: the levels of each, the search for a block's scale, and the bytes.

The layouts are those of ggml's `block_q4_0` and its like (ggml/src/ggml-common.h): every weight is
`scale * level[code] + minimum`, scale and minimum in float16.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

BLOCK = 32
_REACH = 256  # twice the largest level, and a little
_SMALLEST_SCALE = 6e-8  # float16's least
_REFITS = 2


@dataclass(frozen=True)
class BlockFormat:
    """`levels` by code; `affine` formats store a minimum beside the scale. `bits` of a code: 4, 5 or 8."""

    levels: tuple[float, ...]
    affine: bool
    bits: int


_IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)

FORMATS: Mapping[str, BlockFormat] = {
    "IQ4_NL": BlockFormat(_IQ4_NL, False, 4),
    "Q4_0": BlockFormat(tuple(range(-8, 8)), False, 4),
    "Q4_1": BlockFormat(tuple(range(16)), True, 4),
    "Q5_0": BlockFormat(tuple(range(-16, 16)), False, 5),
    "Q5_1": BlockFormat(tuple(range(32)), True, 5),
    "Q8_0": BlockFormat(tuple(range(-127, 128)), False, 8),
}


@dataclass(frozen=True)
class Scales:
    """Scale and minimum of one block a row: float32 tensors of shape (rows, 1) that float16 holds exactly."""

    scale: torch.Tensor
    minimum: torch.Tensor


class LevelGrid:
    """The levels of a format as a tensor, and rounding to them."""

    def __init__(self, kind: str) -> None:
        import torch

        self.kind, self.format = kind, FORMATS[kind]
        self.levels = torch.tensor(self.format.levels, dtype=torch.float32)
        # Levels are whole numbers, so where the nearest one changes is a multiple of a half: a table of the
        # intervals between those finds it without a search.
        halves = (torch.arange(-_REACH, _REACH + 1, dtype=torch.float32) + 0.5) / 2
        self.nearest = (halves[:, None] - self.levels).abs().argmin(1)
        self._nearest_levels = self.levels[self.nearest]

    def codes(self, weights: torch.Tensor, scales: Scales) -> torch.Tensor:
        """The code of the nearest level of each weight; int64 of the same shape (rows, columns)."""
        return self.nearest[self._intervals(weights, scales)]

    def values(self, codes: torch.Tensor, scales: Scales) -> torch.Tensor:
        """What a reader of the file gets for these codes."""
        return self.levels[codes] * scales.scale + scales.minimum

    def search(self, weights: torch.Tensor, importance: torch.Tensor) -> Scales:
        """The scale of each row of `weights`, shape (rows, 32), with the least weighted squared error.

        `importance` has shape (32,). Candidates shrink the range that would clip nothing; the best of them is
        refitted to its own codes by least squares, as long as that helps.
        """
        import torch

        best, least = None, torch.full((len(weights), 1), torch.inf)
        for scales in self._candidates(weights):
            best, least = self._better(weights, importance, scales, (best, least))
        for _ in range(_REFITS):
            assert best is not None
            refitted = self._refitted(weights, importance, best)
            best, least = self._better(weights, importance, refitted, (best, least))
        assert best is not None
        return best

    def _better(
        self,
        weights: torch.Tensor,
        importance: torch.Tensor,
        scales: Scales,
        known: tuple[Scales | None, torch.Tensor],
    ) -> tuple[Scales, torch.Tensor]:
        """Row by row, `scales` or the best known so far, and the error that it leaves."""
        best, least = known
        error = self._levels_of(weights, scales).mul_(scales.scale)
        if self.format.affine:
            error += scales.minimum
        error = error.sub_(weights).square_() @ importance[:, None]
        if best is None:
            return scales, error
        better = error < least
        return Scales(
            scales.scale.where(better, best.scale), scales.minimum.where(better, best.minimum)
        ), error.where(better, least)

    def _levels_of(self, weights: torch.Tensor, scales: Scales) -> torch.Tensor:
        intervals = self._intervals(weights, scales)
        return self._nearest_levels.index_select(0, intervals.flatten()).view(intervals.shape)

    def _intervals(self, weights: torch.Tensor, scales: Scales) -> torch.Tensor:
        if self.format.affine:
            weights = weights - scales.minimum
        halves = (weights * (2 / scales.scale)).floor_().clamp_(-_REACH, _REACH)
        return halves.int().add_(_REACH)

    def _candidates(self, weights: torch.Tensor) -> Iterator[Scales]:
        import torch

        low, high = weights.amin(1, keepdim=True), weights.amax(1, keepdim=True)
        top, bottom = self.format.levels[-1], self.format.levels[0]
        if self.format.affine:
            shrinks = torch.linspace(0.7, 1.05, 8)
            middle, span = (low + high) / 2, (high - low) * shrinks
            found = _stored(span / (top - bottom), middle - span / 2)
        else:
            # With its sign: the longer side of the levels gets it.
            largest = torch.where(high > -low, high, low)
            steps = torch.linspace(0.72, 1.16, 12) if self.format.bits < 8 else torch.linspace(0.97, 1.0, 4)
            ends = (bottom, top) if self.format.bits < 8 else (top,)
            scale = torch.cat([largest * steps / end for end in ends], dim=1)
            found = _stored(scale, torch.zeros_like(scale))
        return map(Scales, torch.split(found.scale, 1, dim=1), torch.split(found.minimum, 1, dim=1))

    def _refitted(self, weights: torch.Tensor, importance: torch.Tensor, scales: Scales) -> Scales:
        """The least squares' scale and minimum for the codes that `scales` gives."""
        import torch

        level = self._levels_of(weights, scales)
        if not self.format.affine:
            weighted = level * importance
            fitted = (weighted * weights).sum(1, keepdim=True)
            return _stored(fitted / (weighted * level).sum(1, keepdim=True).clamp(min=1e-30), scales.minimum)
        total = importance.sum()
        mean_level = (importance * level).sum(1, keepdim=True) / total
        mean = (importance * weights).sum(1, keepdim=True) / total
        spread = (importance * (level - mean_level).square()).sum(1, keepdim=True)
        slope = (importance * (level - mean_level) * (weights - mean)).sum(1, keepdim=True)
        slope = torch.where(spread > 0, slope / spread.clamp(min=1e-30), scales.scale)
        return _stored(slope, mean - slope * mean_level)


def _stored(scale: torch.Tensor, minimum: torch.Tensor) -> Scales:
    scale = scale.half().float()
    return Scales(
        scale.where(scale.abs() >= _SMALLEST_SCALE, scale.new_tensor(_SMALLEST_SCALE)).half().float(),
        minimum.half().float(),
    )


def pack(kind: str, codes: torch.Tensor, scales: Scales) -> npt.NDArray[np.uint8]:
    """Blocks as bytes: `codes` of shape (blocks, 32), scales of shape (blocks, 1) -> (blocks, bytes)."""
    form = FORMATS[kind]
    numbers = codes.numpy().astype(np.uint8)
    head = [_half(scales.scale)] + ([_half(scales.minimum)] if form.affine else [])
    if form.bits == 8:
        signed = (codes.numpy() - 127).astype(np.int8)
        return np.concatenate([*head, signed.view(np.uint8)], axis=1)
    nibbles = (numbers[:, :16] & 15) | ((numbers[:, 16:] & 15) << 4)
    if form.bits == 5:
        head.append(np.packbits(numbers >> 4, axis=1, bitorder="little"))
    return np.concatenate([*head, nibbles], axis=1)


def _half(values: torch.Tensor) -> npt.NDArray[Any]:
    return np.ascontiguousarray(values.numpy().astype(np.float16)).view(np.uint8)
