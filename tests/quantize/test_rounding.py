"""Rounding: the bound that no kernel can saturate under, the grids, and that calibration pays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from ringkas.quantize import rounding
from ringkas.quantize.rounding import BLOCK8, PAIR_LIMIT, Rounded, pair_sums, round4, round8, round8_blocks

DAMPING = 0.1
BLOCK = 32
Integers = npt.NDArray[np.int32]


@pytest.fixture(params=["normal", "heavy tails", "one sign", "a dominant channel"])
def weight(request: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    values = torch.randn(48, 128, generator=generator)
    if request.param == "heavy tails":
        return values**3
    if request.param == "one sign":
        return values.abs() + 1
    if request.param == "a dominant channel":
        values[:, 5] *= 40
    return values


@pytest.fixture
def moment() -> torch.Tensor:
    """Of correlated inputs, as activations are."""
    generator = torch.Generator().manual_seed(11)
    inputs = torch.randn(600, 24, generator=generator) @ torch.randn(24, 128, generator=generator)
    inputs = inputs + 0.3 * torch.randn(600, 128, generator=generator)
    return inputs.T @ inputs / len(inputs)


def multiply_saturating(activations: Integers, weight: Integers) -> Integers:
    """AVX2 without VNNI: products of two neighbours are added in 16 bits, clipped, then summed in 32."""
    products = activations[:, :, None] * weight[None]
    pairs = products[:, 0::2] + products[:, 1::2]
    result: Integers = np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1)
    return result


def worst_activations(weight: Integers) -> Integers:
    """All at the top; then for each output channel only those that its positive, or negative, weights see."""
    return np.vstack([np.full((1, len(weight)), 255), 255 * (weight.T > 0), 255 * (weight.T < 0)]).astype(
        np.int32
    )


def rounded_both_ways(weight: torch.Tensor, moment: torch.Tensor) -> dict[str, Rounded]:
    return {
        "8 bits": round8(weight, moment, DAMPING),
        "8 bits, to nearest": round8(weight, moment.diagonal(), DAMPING),
        "4 bits": round4(weight, moment, DAMPING, BLOCK),
    }


@pytest.mark.parametrize("bits", ["8 bits", "8 bits, to nearest", "4 bits"])
def test_no_product_saturates(bits: str, weight: torch.Tensor, moment: torch.Tensor) -> None:
    rounded = rounded_both_ways(weight, moment)[bits]
    assert int(pair_sums(rounded.integers).max()) <= PAIR_LIMIT
    integers = rounded.integers.T.numpy().astype(np.int32)
    activations = worst_activations(integers)
    np.testing.assert_array_equal(multiply_saturating(activations, integers), activations @ integers)


def test_weights_beyond_the_bound_do_saturate() -> None:
    # The twin of the test above: plain rounding of the same kind of weights is caught.
    weight = torch.randn(48, 128, generator=torch.Generator().manual_seed(7)).abs() + 1
    plain = torch.round(weight / weight.abs().amax(1, keepdim=True) * 127).to(torch.int8)
    assert int(pair_sums(plain).max()) > PAIR_LIMIT
    integers = plain.T.numpy().astype(np.int32)
    activations = worst_activations(integers)
    assert (multiply_saturating(activations, integers) != activations @ integers).any()


def test_pair_sums_count_only_equal_signs() -> None:
    integers = torch.tensor([[100, 28, 100, -100, -127, -1]], dtype=torch.int8)
    assert pair_sums(integers).tolist() == [[128, 100, 128]]


def test_four_bits_are_levels_times_multipliers(weight: torch.Tensor, moment: torch.Tensor) -> None:
    rounded = round4(weight, moment, DAMPING, BLOCK)
    assert rounded.levels is not None
    assert rounded.multipliers is not None
    assert int(rounded.levels.min()) >= -8
    assert int(rounded.levels.max()) <= 7
    expanded = rounded.levels.int() * rounded.multipliers.int().repeat_interleave(BLOCK, dim=1)
    assert torch.equal(expanded, rounded.integers.int())


def test_blocks_have_the_nearest_levels_of_scales_that_are_stored_exactly() -> None:
    weight = torch.randn(6, 4 * BLOCK8) * torch.logspace(-7, 2, 6)[:, None]
    weight[2, :BLOCK8] = 0
    rounded = round8_blocks(weight)
    assert rounded.in_blocks
    assert torch.equal(rounded.scale.half().float(), rounded.scale)
    errors = (rounded.weights() - weight).reshape(6, 4, BLOCK8).abs().amax(2)
    assert (errors <= 0.501 * rounded.scale).all()
    exact = weight.reshape(6, 4, BLOCK8).abs().amax(2) / 127
    assert (rounded.scale <= 1.003 * exact + 2.0**-23).all()
    assert not rounded.weights()[2, :BLOCK8].any()
    assert [part.scale.shape for part in rounded.split([2, 4])] == [(2, 4), (4, 4)]


def output_error(weight: torch.Tensor, approximation: torch.Tensor, moment: torch.Tensor) -> float:
    error = (weight - approximation).double()
    return float(((error @ moment.double()) * error).sum())


def test_to_nearest_is_to_nearest_but_for_pairs_that_saturate(
    weight: torch.Tensor, moment: torch.Tensor
) -> None:
    rounded = rounded_both_ways(weight, moment)["8 bits, to nearest"]
    nearest = torch.round(weight / rounded.scale[:, None]).clamp(-127, 127)
    fits = (pair_sums(nearest.to(torch.int8)) <= PAIR_LIMIT).repeat_interleave(2, dim=1)
    assert torch.equal(rounded.integers[fits], nearest[fits].to(torch.int8))
    assert fits.float().mean() > 0.5
    # Of a pair that does not fit, no more is taken than must be.
    assert (pair_sums(rounded.integers)[~fits[:, ::2]] == PAIR_LIMIT).all()


def test_a_channel_gets_the_scale_that_loses_least(weight: torch.Tensor, moment: torch.Tensor) -> None:
    importance = moment.diagonal()

    def lost(scale: torch.Tensor) -> torch.Tensor:
        nearest = torch.round(weight / scale[:, None]).clamp(-127, 127)
        fitting = rounding._within_pairs(nearest, torch.full_like(nearest, PAIR_LIMIT))
        return (fitting * scale[:, None] - weight).square() @ importance

    widest = weight.abs().amax(1)
    by_stretch = torch.stack([lost(widest * stretch / 127) for stretch in rounding._STRETCHES])
    chosen = lost(rounding._channel_scale(weight, importance))
    assert chosen.sum() < 1.02 * by_stretch.amin(0).sum()


@pytest.mark.parametrize(("bits", "gain"), [("8 bits", 0.8), ("4 bits", 0.6)])
def test_calibrated_rounding_beats_the_nearest_level(bits: str, gain: float, moment: torch.Tensor) -> None:
    weight = torch.randn(48, 128, generator=torch.Generator().manual_seed(3))
    rounded = rounded_both_ways(weight, moment)[bits]
    blind = rounded_both_ways(weight, torch.eye(128))[bits]  # uncorrelated inputs: nothing can be repaid
    assert output_error(weight, rounded.weights(), moment) < gain * output_error(
        weight, blind.weights(), moment
    )


@pytest.mark.parametrize("bits", ["8 bits", "8 bits, to nearest", "4 bits"])
def test_channels_of_zeros_and_unseen_inputs_stay_finite(bits: str) -> None:
    weight = torch.randn(8, 64, generator=torch.Generator().manual_seed(5))
    weight[2] = 0
    moment = torch.zeros(64, 64)
    moment[:10, :10] = torch.eye(10)
    rounded = rounded_both_ways(weight, moment)[bits]
    assert torch.isfinite(rounded.weights()).all()
    assert (rounded.weights()[2] == 0).all()


def test_a_moment_too_singular_for_single_precision_is_rounded_in_double() -> None:
    inputs = torch.randn(8, 256, generator=torch.Generator().manual_seed(0))
    moment = inputs.T @ inputs / len(inputs)
    damped = moment + 1e-6 * moment.diagonal().mean() * torch.eye(256)
    assert torch.linalg.cholesky_ex(damped.flip(0, 1)).info > 0
    weight = torch.randn(48, 256, generator=torch.Generator().manual_seed(1))
    rounded = round8(weight, moment, damping=1e-6)
    assert torch.isfinite(rounded.weights()).all()
    # With so few inputs, what compensation cannot repay is nearly nothing.
    nearest = torch.round(weight / rounded.scale[:, None]) * rounded.scale[:, None]
    assert ((rounded.weights() - weight) @ inputs.T).norm() < 0.5 * ((nearest - weight) @ inputs.T).norm()
