"""The quantised layers: near to the float layer, and no row depends on another."""

from __future__ import annotations

import pytest
import torch

from ringkas.quantize import tables
from ringkas.quantize.calibrate import Inputs
from ringkas.quantize.for_onnx.layers import (
    BlockTable,
    QuantizedInput,
    QuantizedTable,
    RowLinear,
    StaticLinear,
)
from ringkas.quantize.rounding import round8
from ringkas.quantize.smooth import centred, plain, transformed

TOKENS, WIDTH, OUTPUTS = 400, 64, 32


@pytest.fixture
def values() -> torch.Tensor:
    """As a LayerNorm gives them: two channels far off zero, one wide."""
    values = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))
    values[:, 3] += 60
    values[:, 9] -= 25
    values[:, 20] *= 12
    return values


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(OUTPUTS, WIDTH, generator=torch.Generator().manual_seed(2))


def statistics(values: torch.Tensor) -> Inputs:
    mean = values.mean(0)
    return Inputs(values.amin(0), values.amax(0), mean, (values - mean).T @ (values - mean) / TOKENS, TOKENS)


def static_layer(values: torch.Tensor, weight: torch.Tensor, *, shifted: bool) -> StaticLinear:
    inputs = statistics(values)
    affine = centred(inputs, weight.abs().amax(0), 0.8, 1.1) if shifted else plain(inputs, 1.1)
    rounded = round8(weight / affine.factor, transformed(inputs, affine).covariance, 0.1)
    return StaticLinear(rounded, weight @ affine.shift, QuantizedInput(affine))


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Without the mean, which a constant outlier would make large."""
    return float((found - expected).norm() / (expected - expected.mean(0)).norm())


def test_shift_and_factor_keep_the_outliers_harmless(values: torch.Tensor, weight: torch.Tensor) -> None:
    expected = values @ weight.T
    assert relative_error(static_layer(values, weight, shifted=True)(values), expected) < 0.02
    assert relative_error(static_layer(values, weight, shifted=False)(values), expected) > 0.04


def test_a_scale_off_by_two_percent_is_seen(values: torch.Tensor, weight: torch.Tensor) -> None:
    expected = values @ weight.T
    layer = static_layer(values, weight, shifted=True)
    right = relative_error(layer(values), expected)
    layer.weight_scale.mul_(1.02)
    assert relative_error(layer(values), expected) > 1.5 * right
    layer.weight_scale.div_(1.02)


@pytest.mark.parametrize("lowest", [-0.17, 0.0, None])
def test_rows_have_a_range_each(lowest: float | None, weight: torch.Tensor) -> None:
    values = torch.randn(TOKENS, WIDTH, generator=torch.Generator().manual_seed(4))
    values = values * torch.logspace(-1, 2, TOKENS)[:, None]
    if lowest is not None:
        values = values.clamp(min=lowest)
    rounded = round8(weight, torch.eye(WIDTH), 0.1)
    layer = RowLinear(rounded, torch.zeros(OUTPUTS), lowest)
    expected = values @ weight.T
    for part in (slice(0, 100), slice(300, 400)):
        error = (layer(values[part]) - expected[part]).norm() / expected[part].norm()
        assert error < 0.03
    alone = torch.cat([layer(values[i : i + 1]) for i in range(TOKENS)])
    torch.testing.assert_close(alone, layer(values), rtol=1e-5, atol=1e-4)


def test_a_row_of_zeros_gives_the_bias(weight: torch.Tensor) -> None:
    bias = torch.arange(OUTPUTS).float()
    for lowest in (-0.17, 0.0, None):
        layer = RowLinear(round8(weight, torch.eye(WIDTH), 0.1), bias, lowest)
        torch.testing.assert_close(layer(torch.zeros(3, WIDTH)), bias.expand(3, -1))


def test_tables() -> None:
    table = torch.randn(300, 64, generator=torch.Generator().manual_seed(6))
    table[7] = 0
    ids = torch.arange(300).reshape(3, 100)
    for module, floor in (
        (QuantizedTable(*tables.round_rows(table)), 0.9999),
        (BlockTable(*tables.round_blocks(table, 32)), 0.99),
    ):
        found = module(ids).reshape(300, 64)
        assert (found[7] == 0).all()
        rows = [row for row in range(300) if row != 7]
        assert torch.cosine_similarity(found[rows], table[rows]).min() > floor
