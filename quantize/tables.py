"""Embedding tables: looked up, never multiplied, so the nearest level with a good scale is enough."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ringkas.families import FAMILIES
from ringkas.quantize import workers

# Rounded at a time: to nearest, what bounds the memory of a large vocabulary; in blocks, whose scales are
# searched for, what a core's cache holds.
_ROWS, _SEARCHED_ROWS = 8192, 512
_LEVELS8 = 127
_NARROWEST = 32  # a bias for each attention head is narrower, and no table of tokens is
# A factor for each column is worth an operator where it takes a tenth of the error.
_WORTH_IT, _LEAST_FACTOR = 0.9, 1e-12
# How far the largest value of a block is clipped, tried in turn.
_CLIPS = tuple(1.0 - step / 32 for step in range(12))


_TOKEN_TABLES = frozenset(family.token_table for family in FAMILIES.values())


def is_token_table(name: str) -> bool:
    """Whether an encoder's module of that name is its table of tokens, the only one that is large."""
    return name in _TOKEN_TABLES


def stays_float(table: nn.Embedding) -> bool:
    """Whether a table is left as it is: its rows are so narrow that their scales take what integers save."""
    return table.embedding_dim < _NARROWEST


def rows_of(table: nn.Embedding) -> Tensor:
    """What the table gives for each id, (rows, width): Gemma's scales what it looks up."""
    if type(table) is nn.Embedding:
        return table.weight.detach()
    with torch.no_grad():
        given: Tensor = table(torch.arange(table.num_embeddings))
    return given


def round_rows(table: Tensor) -> tuple[Tensor, Tensor]:
    """int8 (rows, width) and the float32 scale (rows, 1) of each row."""
    scale = (torch.maximum(table.amax(1, keepdim=True), -table.amin(1, keepdim=True)) / _LEVELS8).clamp(
        min=1e-12
    )
    parts = zip(torch.split(table, _ROWS), torch.split(scale, _ROWS), strict=True)
    return torch.cat([torch.round(rows / own).to(torch.int8) for rows, own in parts]), scale


def column_factors(table: Tensor) -> Tensor | None:
    """What to divide each column by before rows are rounded, (width,); None where that helps little.

    In a row whose largest values always lie in the same columns, they set the scale for all the others. The
    square root of a column's magnitude is halfway between a scale for rows and one for columns.
    """
    sample = table[:: -(-len(table) // _ROWS)]
    factors = table.square().mean(0).sqrt().sqrt().clamp(min=_LEAST_FACTOR)
    plain, divided = _relative_error(sample), _relative_error(sample, factors)
    return factors if divided < _WORTH_IT * plain else None


def _relative_error(table: Tensor, factors: Tensor | float = 1.0) -> float:
    levels, scale = round_rows(table / factors)
    error = (levels.float() * scale * factors - table).square().sum(1)
    return float((error / table.square().sum(1).clamp(min=_LEAST_FACTOR)).mean().sqrt())


def round_blocks(table: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Levels -8..7 as int8 (rows, width) and a float16 scale for each block (rows, width / block)."""
    split = torch.split(table, _SEARCHED_ROWS)
    parts = list(workers.each(lambda rows: _round_block_rows(rows, block), split))
    return torch.cat([levels for levels, _ in parts]), torch.cat([scale for _, scale in parts])


def _round_block_rows(rows: Tensor, block: int) -> tuple[Tensor, Tensor]:
    blocks = rows.reshape(len(rows), -1, block)
    # -8 has no positive twin, so the side of the largest value gets it: the scale may be negative.
    extreme = blocks.gather(2, blocks.abs().argmax(2, keepdim=True))
    best_error, best_scale = torch.full_like(extreme, torch.inf), torch.zeros_like(extreme)
    wanted, levels = torch.empty_like(blocks), torch.empty_like(blocks)
    for clip in _CLIPS:
        # As stored: float16, never zero (a row of zeros keeps zero levels).
        scale = (extreme * clip / -8).to(torch.float16).float()
        scale = torch.where(scale == 0, 1e-4, scale)
        torch.div(blocks, scale, out=wanted)
        torch.round(wanted, out=levels).clamp_(-8, 7)
        error = levels.sub_(wanted).square_().sum(2, keepdim=True) * scale.square()
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale = torch.where(better, scale, best_scale)
    levels = torch.round(blocks / best_scale).clamp(-8, 7)
    return levels.reshape(rows.shape).to(torch.int8), best_scale[..., 0].to(torch.float16)
