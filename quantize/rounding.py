"""Rounding weights to integers: GPTQ on a grid that cannot saturate.

On AVX2 without VNNI the product of unsigned activations and signed weights adds two neighbours in 16 bits
(vpmaddubsw) and clips what does not fit. With activations up to 255 that cannot happen while the weights of
each pair of input channels (2i, 2i + 1) that have the same sign sum to at most 128 in magnitude:
255 * 128 = 32,640 < 32,767. So the grid keeps that bound, and results are the same on every machine.
GPTQ: Frantar et al., 2022 (arXiv:2210.17323).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PAIR_LIMIT = 128
_LIMIT = 127
_NIBBLE = (-8, 7)
# How far past the largest weight a channel's scale is tried: a larger one clips no pair, a smaller is finer.
_STRETCHES = (1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8, 2.0)
# For 4 bits: the multiplier that the widest block of a channel gets, and how far a block may clip.
_TOP_MULTIPLIERS = (8, 10, 12, 14, 15)
_CLIPS = (0.7, 0.8, 0.9, 1.0, 1.1)
_COLUMNS = 64


@dataclass(frozen=True)
class Grid:
    """Where weights may lie: weight = level * multiplier * scale, level in low..high.

    `scale` is (out,), `multipliers` (out, in) integers, constant within a block; all ones for 8 bits.
    """

    scale: Tensor
    multipliers: Tensor
    low: int
    high: int

    def step(self) -> Tensor:
        return self.scale[:, None] * self.multipliers

    def pair_limit(self) -> Tensor:
        """The most that two neighbours of one sign may have in levels."""
        return torch.floor(PAIR_LIMIT / self.multipliers.abs())


@dataclass(frozen=True)
class Rounded:
    """Weights as 8-bit integers times a scale for each output channel.

    `integers` is int8 (out, in). For 4 bits it is `levels` (int8, -8..7) times `multipliers`, an int8 for
    each output channel and block.
    """

    integers: Tensor
    scale: Tensor
    levels: Tensor | None = None
    multipliers: Tensor | None = None

    def weights(self) -> Tensor:
        return self.integers.float() * self.scale[:, None]


def pair_sums(integers: Tensor) -> Tensor:
    """The largest magnitude that the products of each pair can reach, over 255: (out, in / 2)."""
    first, second = integers[:, 0::2].int(), integers[:, 1::2].int()
    same_sign = first * second > 0
    return torch.where(same_sign, first.abs() + second.abs(), torch.maximum(first.abs(), second.abs()))


def round8(weight: Tensor, moment: Tensor, damping: float) -> Rounded:
    """8 bits with one scale for each output channel.

    Args:
        weight: float (out, in), `in` even.
        moment: (in, in), the second moment, or covariance, of the layer's input.
        damping: the share of the moment's mean diagonal that is added to it.
    """
    scale = _channel_scale(weight, moment.diagonal())
    grid = Grid(scale, torch.ones_like(weight), -_LIMIT, _LIMIT)
    levels = _gptq(weight, _damped(moment, damping), grid)
    return Rounded(levels.to(torch.int8), _refit(weight, levels, moment, scale))


def round4(weight: Tensor, moment: Tensor, damping: float, block: int) -> Rounded:
    """4-bit levels, an integer multiplier for each block of input channels, a scale for each output channel.

    Args:
        weight: float (out, in), `in` a multiple of `block`, which is even.
        moment: (in, in), the second moment, or covariance, of the layer's input.
        damping: the share of the moment's mean diagonal that is added to it.
        block: input channels that share a multiplier.
    """
    grid, multipliers = _block_grid(weight, moment.diagonal(), block)
    levels = _gptq(weight, _damped(moment, damping), grid)
    integers = levels * grid.multipliers
    scale = _refit(weight, integers, moment, grid.scale)
    return Rounded(integers.to(torch.int8), scale, levels.to(torch.int8), multipliers.to(torch.int8))


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
    widest = weight.abs().amax(1).clamp(min=1e-12)
    limit = torch.full_like(weight, PAIR_LIMIT)
    errors, scales = [], []
    for stretch in _STRETCHES:
        scale = widest / _LIMIT * stretch
        levels = _within_pairs(torch.round(weight / scale[:, None]).clamp(-_LIMIT, _LIMIT), limit)
        errors.append(((levels * scale[:, None] - weight).square() * importance).sum(1))
        scales.append(scale)
    return _best(torch.stack(errors), torch.stack(scales))


def _block_grid(weight: Tensor, importance: Tensor, block: int) -> tuple[Grid, Tensor]:
    rows, columns = weight.shape
    blocks = weight.reshape(rows, columns // block, block)
    importance = importance.reshape(columns // block, block)
    widest = blocks.abs().amax(2)
    errors, scales, choices = [], [], []
    for top in _TOP_MULTIPLIERS:
        scale = (widest.amax(1) / (-_NIBBLE[0] * top)).clamp(min=1e-12)
        error, multipliers = _fit_multipliers(blocks, importance, scale)
        errors.append(error.sum(1))
        scales.append(scale)
        choices.append(multipliers)
    error = torch.stack(errors)
    scale = _best(error, torch.stack(scales))
    multipliers = torch.stack(choices)[error.argmin(0), torch.arange(rows)]
    return Grid(scale, multipliers.repeat_interleave(block, dim=1), *_NIBBLE), multipliers


def _fit_multipliers(blocks: Tensor, importance: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """The error of each block with its best multiplier, and that multiplier: both (out, blocks)."""
    ideal = blocks.abs().amax(2) / (-_NIBBLE[0] * scale[:, None])
    errors, candidates = [], []
    for clip in _CLIPS:
        for sign in (1, -1):  # the level -8 has no positive twin: the sign says which side it serves
            multiplier = torch.round(ideal * clip).clamp(1, _TOP_MULTIPLIERS[-1]) * sign
            step = (scale[:, None] * multiplier)[..., None]
            limit = torch.floor(PAIR_LIMIT / multiplier.abs())[..., None].expand_as(blocks)
            levels = _within_pairs(torch.round(blocks / step).clamp(*_NIBBLE), limit)
            errors.append(((levels * step - blocks).square() * importance).sum(2))
            candidates.append(multiplier)
    error = torch.stack(errors)
    return error.amin(0), _best(error, torch.stack(candidates))


def _best(errors: Tensor, values: Tensor) -> Tensor:
    """Of the candidates along the first axis, the one of least error at each place."""
    return values.gather(0, errors.argmin(0, keepdim=True))[0]


def _gptq(weight: Tensor, moment: Tensor, grid: Grid) -> Tensor:
    """Levels (out, in), chosen a column at a time; each column's error is repaid by those after it."""
    order = _pair_order(moment)
    weight, step, limit = weight[:, order].clone(), grid.step()[:, order], grid.pair_limit()[:, order]
    factor = _inverse_factor(moment[order][:, order])
    levels = torch.zeros_like(weight)
    for start in range(0, weight.shape[1], _COLUMNS):
        end = min(start + _COLUMNS, weight.shape[1])
        errors = torch.zeros_like(weight[:, start:end])
        for column in range(start, end):
            level = torch.round(weight[:, column] / step[:, column]).clamp(grid.low, grid.high)
            if column % 2 == 0:  # leave room for the neighbour, which is not rounded yet
                other = torch.round(weight[:, column + 1] / step[:, column]).clamp(grid.low, grid.high)
                excess = (level.abs() + other.abs() - limit[:, column]).clamp(min=0) * (level * other > 0)
                level = level - level.sign() * torch.ceil(excess / 2)
            else:
                room = limit[:, column] - levels[:, column - 1].abs()
                over = (level.abs() - room).clamp(min=0) * (level * levels[:, column - 1] > 0)
                level = level - level.sign() * over
            levels[:, column] = level
            error = (weight[:, column] - level * step[:, column]) / factor[column, column]
            errors[:, column - start] = error
            weight[:, column:end] -= error[:, None] * factor[column, column:end]
        weight[:, end:] -= errors @ factor[start:end, end:]
    inverse = torch.empty_like(order)
    inverse[order] = torch.arange(len(order))
    return levels[:, inverse]


def _damped(moment: Tensor, damping: float) -> Tensor:
    added = damping * moment.diagonal().mean().clamp(min=1e-12)
    return moment + added * torch.eye(len(moment))


def _pair_order(moment: Tensor) -> Tensor:
    """Columns, the pairs of largest input first: their errors then have the most columns to repay them."""
    pairs = moment.diagonal().reshape(-1, 2).sum(1).argsort(descending=True, stable=True)
    return torch.stack([2 * pairs, 2 * pairs + 1], dim=1).flatten()


def _inverse_factor(moment: Tensor) -> Tensor:
    """The upper Cholesky factor of the moment's inverse."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(moment.double()))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor.float()


def _refit(weight: Tensor, integers: Tensor, moment: Tensor, scale: Tensor) -> Tensor:
    """The scale of each output channel that is best for its integers: least squares over the inputs."""
    weighted = integers @ moment
    best = (weighted * weight).sum(1) / (weighted * integers).sum(1).clamp(min=1e-12)
    # A channel of zeros, or one whose inputs were never seen, keeps its own.
    return torch.where((best / scale - 1).abs() < 0.1, best, scale)
