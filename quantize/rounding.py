"""Rounding weights to integers: GPTQ on a grid that cannot saturate.

On AVX2 without VNNI the product of unsigned activations and signed weights adds two neighbours in 16 bits
(vpmaddubsw) and clips what does not fit. With activations up to 255 that cannot happen while the weights of
each pair of input channels (2i, 2i + 1) that have the same sign sum to at most 128 in magnitude:
255 * 128 = 32,640 < 32,767. So the grid keeps that bound, and results are the same on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ringkas.quantize.gptq import Array, Panel, by_importance, compensate, damped

PAIR_LIMIT = 128
# Neighbours that share a scale where 8 bits come in blocks. Float16's relative step, and its least number.
BLOCK8 = 32
_HALF_STEP, _LEAST_HALF = 2.0**-10, 2.0**-24
_LIMIT = 127
_NIBBLE = (-8, 7)
# How far past the largest weight a channel's scale is tried: a larger one clips no pair, a smaller is finer.
_STRETCHES = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0)
# For 4 bits: the multiplier that the widest block of a channel gets, and how far a block may clip.
_TOP_MULTIPLIERS = (8, 10, 12, 14, 15)
_CLIPS = (0.7, 0.8, 0.9, 1.0, 1.1)
# Up to this multiplier twice the largest level of 4 bits is within the limit of a pair.
_LEAST_TIGHT = PAIR_LIMIT // (2 * -_NIBBLE[0])
# Input channels that are rounded together, and weights whose multipliers are searched together.
_PANEL = 64
_SEARCHED = 2**16


@dataclass(frozen=True)
class Grid:
    """Where weights may lie: weight = level * multiplier * scale, level in low..high.

    `scale` is (out,), `multipliers` (out, in / block) integers; for 8 bits one block of ones.
    """

    scale: Tensor
    multipliers: Tensor
    block: int
    low: int
    high: int

    def steps(self) -> Tensor:
        """The size of a level: (in / block, out)."""
        return (self.scale[:, None] * self.multipliers).T.contiguous()

    def pair_limits(self) -> Tensor:
        """The most that two neighbours of one sign may have in levels: (in / block, out)."""
        return torch.floor(PAIR_LIMIT / self.multipliers.abs()).T.contiguous()

    def nearest(self, wanted: Array, step: Array) -> Array:
        """The level nearest to each of `wanted`, whatever its neighbour has."""
        level: Array = wanted / step
        np.rint(level, out=level)
        np.maximum(level, self.low, out=level)  # np.clip takes as long again to find out what it was given
        return np.minimum(level, self.high, out=level)


@dataclass(frozen=True)
class Rounded:
    """Weights as 8-bit integers times a scale for each output channel, or for each of its blocks.

    `integers` is int8 (out, in), `scale` (out,) or (out, blocks). For 4 bits `integers` is `levels` (int8,
    -8..7) times `multipliers`, an int8 for each output channel and block.
    """

    integers: Tensor
    scale: Tensor
    levels: Tensor | None = None
    multipliers: Tensor | None = None

    @property
    def in_blocks(self) -> bool:
        """Whether each block has a scale: to be made float, not to be multiplied as integers."""
        return self.scale.dim() == 2

    @property
    def is_packed(self) -> bool:
        """Whether it is stored otherwise than it is computed."""
        return self.in_blocks or self.levels is not None

    def weights(self) -> Tensor:
        scale = self.scale if self.in_blocks else self.scale[:, None]
        blocks = self.integers.float().reshape(*scale.shape, -1)
        return (blocks * scale[..., None]).flatten(1)

    def split(self, rows: list[int]) -> list[Rounded]:
        """So many output channels each, in order: layers that were rounded as one."""
        parts = [
            [None] * len(rows) if field is None else torch.split(field, rows)
            for field in (self.integers, self.scale, self.levels, self.multipliers)
        ]
        return [Rounded(*fields) for fields in zip(*parts, strict=True)]


def pair_sums(integers: Tensor) -> Tensor:
    """The largest magnitude that the products of each pair can reach, over 255: (out, in / 2)."""
    first, second = integers[:, 0::2].int(), integers[:, 1::2].int()
    same_sign = first * second > 0
    return torch.where(same_sign, first.abs() + second.abs(), torch.maximum(first.abs(), second.abs()))


def round8(weight: Tensor, moment: Tensor, damping: float) -> Rounded:
    """8 bits with one scale for each output channel.

    Args:
        weight: float (out, in), `in` even.
        moment: (in, in), the second moment, or covariance, of the layer's input; or (in,), its diagonal: then
            each weight goes to the level nearest to it, as far as its neighbour leaves room.
        damping: the share of the moment's mean diagonal that is added to it.
    """
    if moment.dim() == 1:
        scale = _channel_scale(weight, moment)
        nearest = torch.round(weight / scale[:, None]).clamp(-_LIMIT, _LIMIT)
        return Rounded(_within_pairs(nearest, torch.full_like(nearest, PAIR_LIMIT)).to(torch.int8), scale)
    scale = _channel_scale(weight, moment.diagonal())
    grid = Grid(scale, torch.ones(len(weight), 1), weight.shape[1], -_LIMIT, _LIMIT)
    levels = _gptq(weight, damped(moment, damping), grid)
    return Rounded(levels.to(torch.int8), _refit(weight, levels, moment, scale))


def round8_blocks(weight: Tensor) -> Rounded:
    """8 bits with a float16 scale for each `BLOCK8` neighbours of a row, each weight to the nearest level.

    Args:
        weight: float (out, in), `in` a multiple of `BLOCK8`.
    """
    blocks = weight.reshape(len(weight), -1, BLOCK8)
    exact = blocks.abs().amax(2, keepdim=True) / _LIMIT
    # Rounded up, by the least that surely is, so that nothing is clipped; never zero.
    scale = (exact * (1 + _HALF_STEP) + _LEAST_HALF).half().float()
    integers = torch.round(blocks / scale).to(torch.int8)
    return Rounded(integers.flatten(1), scale[..., 0])


def round4(weight: Tensor, moment: Tensor, damping: float, block: int) -> Rounded:
    """4-bit levels, an integer multiplier for each block of input channels, a scale for each output channel.

    Args:
        weight: float (out, in), `in` a multiple of `block`, which is even.
        moment: (in, in), the second moment, or covariance, of the layer's input.
        damping: the share of the moment's mean diagonal that is added to it.
        block: input channels that share a multiplier.
    """
    grid = _block_grid(weight, moment.diagonal(), block)
    levels = _gptq(weight, damped(moment, damping), grid)
    integers = levels * grid.multipliers.repeat_interleave(block, dim=1)
    scale = _refit(weight, integers, moment, grid.scale)
    return Rounded(integers.to(torch.int8), scale, levels.to(torch.int8), grid.multipliers.to(torch.int8))


def _within_pairs(levels: Tensor, limit: Tensor) -> Tensor:
    """`levels` with both of each pair made smaller until their sum keeps to `limit`."""
    first, second = levels[..., 0::2], levels[..., 1::2]
    excess = ((first.abs() + second.abs() - limit[..., 0::2]).clamp(min=0)) * (first * second > 0)
    half = torch.ceil(excess / 2)
    fixed = torch.empty_like(levels)
    fixed[..., 0::2] = first - first.sign() * half
    fixed[..., 1::2] = second - second.sign() * (excess - half)
    return fixed


def _channel_scale(weight: Tensor, importance: Tensor) -> Tensor:
    """Of the stretches of the range, each channel's best.

    A weight loses a twelfth of its step squared by rounding, on average over a channel's many; a pair that
    is too large for its limit loses the excess, half of it from each.
    """
    widest = weight.abs().amax(1).clamp(min=1e-12)
    first, second = (weight * (_LIMIT / widest[:, None])).reshape(len(weight), -1, 2).unbind(2)
    sums = (first.abs() + second.abs()) * (first * second > 0)
    by_rounding, by_clipping = importance.sum() / 12, importance.reshape(-1, 2).sum(1) / 4
    errors = [
        stretch**2 * (by_rounding + (sums / stretch - PAIR_LIMIT).clamp_(min=0).square_() @ by_clipping)
        for stretch in _STRETCHES
    ]
    return widest / _LIMIT * torch.tensor(_STRETCHES)[torch.stack(errors).argmin(0)]


def _block_grid(weight: Tensor, importance: Tensor, block: int) -> Grid:
    importance = importance.reshape(-1, block)
    rows = max(1, _SEARCHED // weight.shape[1])  # at a time, as many as a core's cache holds
    parts = torch.split(weight.contiguous(), rows)
    found = [_row_grids(part.reshape(len(part), -1, block), importance) for part in parts]
    scale, multipliers = (torch.cat(fields) for fields in zip(*found, strict=True))
    return Grid(scale, multipliers, block, *_NIBBLE)


def _row_grids(blocks: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
    """The scale of each row of `blocks` (out, blocks, block), and the multiplier of each of its blocks.

    First the step that each block would have if it were free to, then for each scale of the row the
    multipliers on either side of that.
    """
    steps, signs = _free_steps(blocks, importance)
    turned = blocks * signs[..., None]
    widest = blocks.abs().amax((1, 2))
    errors, scales, choices = [], [], []
    for top in _TOP_MULTIPLIERS:
        scale = (widest / (-_NIBBLE[0] * top)).clamp(min=1e-12)
        error, multipliers = _fit_multipliers(turned, importance, steps / scale[:, None], scale)
        errors.append(error.sum(1))
        scales.append(scale)
        choices.append(multipliers)
    error = torch.stack(errors)
    multipliers = torch.stack(choices)[error.argmin(0), torch.arange(len(blocks))]
    return _best(error, torch.stack(scales)), multipliers * signs


def _free_steps(blocks: Tensor, importance: Tensor) -> tuple[Tensor, Tensor]:
    """The best step of each block, and which side of zero gets the level -8, which has no positive twin."""
    widest = (blocks.abs().amax(2) / -_NIBBLE[0]).clamp(min=1e-12)
    errors, steps, signs = [], [], []
    for clip in _CLIPS:
        step = widest * clip
        nearest = torch.round(blocks / step[..., None])
        for sign, (low, high) in ((1.0, _NIBBLE), (-1.0, (-_NIBBLE[1], -_NIBBLE[0]))):
            error = nearest.clamp(low, high).mul_(step[..., None]).sub_(blocks)
            errors.append(error.square_().mul_(importance).sum(2))
            steps.append(step)
            signs.append(torch.full_like(step, sign))
    error = torch.stack(errors)
    return _best(error, torch.stack(steps)), _best(error, torch.stack(signs))


def _fit_multipliers(
    blocks: Tensor, importance: Tensor, wanted: Tensor, scale: Tensor
) -> tuple[Tensor, Tensor]:
    """The error of each block with its best multiplier near `wanted`, and that multiplier: (out, blocks)."""
    errors, candidates = [], []
    for near in (torch.floor(wanted), torch.ceil(wanted)):
        size = near.clamp_(1, _TOP_MULTIPLIERS[-1])
        step = (scale[:, None] * size)[..., None]
        levels = torch.round(blocks / step).clamp_(*_NIBBLE)
        tight = size > _LEAST_TIGHT  # of all others no pair can exceed its limit
        if tight.any():
            found = levels[tight]
            limit = torch.floor(PAIR_LIMIT / size[tight])
            levels[tight] = _within_pairs(found, limit[:, None].expand_as(found))
        errors.append(levels.mul_(step).sub_(blocks).square_().mul_(importance).sum(2))
        candidates.append(size)
    error = torch.stack(errors)
    return error.amin(0), _best(error, torch.stack(candidates))


def _best(errors: Tensor, values: Tensor) -> Tensor:
    """Of the candidates along the first axis, the one of least error at each place."""
    return values.gather(0, errors.argmin(0, keepdim=True))[0]


def _gptq(weight: Tensor, moment: Tensor, grid: Grid) -> Tensor:
    """Levels (out, in), chosen a pair of input channels at a time."""
    rounder = _PairRounder(grid, weight.shape)
    compensate(weight, moment, by_importance(moment, 2), _PANEL, rounder)
    return torch.from_numpy(rounder.levels).T.contiguous()


class _PairRounder:
    """Rounds both of a pair so that they keep to their limit; `levels` is (in, out)."""

    def __init__(self, grid: Grid, shape: torch.Size) -> None:
        self._grid = grid
        self._steps, self._limits = grid.steps().numpy(), grid.pair_limits().numpy()
        self.levels = np.empty(shape[::-1], np.float32)

    def __call__(self, panel: Panel) -> Array:
        grid, debts = self._grid, panel.debts
        values, errors = np.empty_like(panel.exact), np.empty_like(panel.exact)
        for at in range(0, len(values), 2):
            channel = panel.channels[at]
            unit = channel // grid.block
            step, limit = self._steps[unit], self._limits[unit]  # the same for both of a pair
            first, second = panel.wanted[at : at + 2] + debts[at : at + 2, :at] @ errors[:at]
            owed = debts[at + 1, at]
            # Leave room for the neighbour, as it would be if this one were not rounded.
            level = grid.nearest(first, step)
            other = grid.nearest(second + owed * (panel.exact[at] - first), step)
            excess = np.maximum(np.abs(level) + np.abs(other) - limit, 0) * (level * other > 0)
            level -= np.sign(level) * np.ceil(excess / 2)
            values[at] = level * step
            errors[at] = panel.exact[at] - values[at]
            second += owed * errors[at]
            other = grid.nearest(second, step)
            over = np.maximum(np.abs(other) - (limit - np.abs(level)), 0) * (level * other > 0)
            other -= np.sign(other) * over
            values[at + 1] = other * step
            errors[at + 1] = panel.exact[at + 1] - values[at + 1]
            self.levels[channel], self.levels[channel + 1] = level, other
        return values


def _refit(weight: Tensor, integers: Tensor, moment: Tensor, scale: Tensor) -> Tensor:
    """The scale of each output channel that is best for its integers: least squares over the inputs."""
    weighted = integers @ moment
    best = (weighted * weight).sum(1) / (weighted * integers).sum(1).clamp(min=1e-12)
    # A channel of zeros, or one whose inputs were never seen, keeps its own.
    return torch.where((best / scale - 1).abs() < 0.1, best, scale)
