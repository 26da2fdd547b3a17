"""One rounding for every format: against GPTQ as it was published, in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ringkas.quantize.gptq import Array, Panel, by_importance, compensate, damped

STEP = 0.5


def published(weight: torch.Tensor, moment: torch.Tensor) -> torch.Tensor:
    """Algorithm 1 of the paper, a column at a time, by the inverse's Cholesky factor."""
    inverse = torch.linalg.cholesky(torch.linalg.inv(moment.double()), upper=True)
    left, rounded = weight.double().clone(), torch.empty_like(weight).double()
    for column in range(weight.shape[1]):
        rounded[:, column] = torch.round(left[:, column] / STEP) * STEP
        error = (left[:, column] - rounded[:, column]) / inverse[column, column]
        left[:, column:] -= error[:, None] * inverse[column, column:]
    return rounded.float()


class PlainRounder:
    """To the multiples of STEP, a channel at a time."""

    def __init__(self, shape: torch.Size) -> None:
        self.values = np.full(shape, np.nan, np.float32)
        self.importance: list[float] = []

    def __call__(self, panel: Panel) -> Array:
        values, errors = np.empty_like(panel.exact), np.empty_like(panel.exact)
        for at, wanted in enumerate(panel.wanted):
            values[at] = np.rint((wanted + panel.debts[at, :at] @ errors[:at]) / STEP) * STEP
            errors[at] = panel.exact[at] - values[at]
        self.values[:, panel.channels] = values.T
        self.importance += panel.importance.tolist()
        return values


@pytest.fixture
def weight() -> torch.Tensor:
    return torch.randn(40, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def moment() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(500, 30, generator=generator) @ torch.randn(30, 96, generator=generator)
    inputs = inputs + 0.5 * torch.randn(500, 96, generator=generator)
    return damped(inputs.T @ inputs / len(inputs), 0.05)


@pytest.mark.parametrize("width", [8, 32, 96])
def test_it_is_the_published_algorithm(weight: torch.Tensor, moment: torch.Tensor, width: int) -> None:
    rounder = PlainRounder(weight.shape)
    compensate(weight, moment, torch.arange(96), width, rounder)
    expected = published(weight, moment)
    # Single precision turns a tie now and then, and what follows in that row with it.
    same = (torch.from_numpy(rounder.values) == expected).all(1).float().mean()
    assert same > 0.9
    inverse = torch.linalg.cholesky(torch.linalg.inv(moment.double()), upper=True)
    np.testing.assert_allclose(rounder.importance, inverse.diagonal() ** -2, rtol=1e-3)


def test_another_order_is_the_algorithm_on_columns_in_that_order(
    weight: torch.Tensor, moment: torch.Tensor
) -> None:
    order = by_importance(moment, 4)
    assert sorted(order.tolist()) == list(range(96))
    assert (order.reshape(-1, 4) % 4 == torch.arange(4)).all()
    sums = moment.diagonal()[order].reshape(-1, 4).sum(1)
    assert (sums.diff() <= 0).all()
    rounder = PlainRounder(weight.shape)
    compensate(weight, moment, order, 32, rounder)
    expected = published(weight[:, order], moment[order][:, order])
    assert (torch.from_numpy(rounder.values)[:, order] == expected).all(1).float().mean() > 0.9


def test_a_debt_that_is_forgotten_costs(weight: torch.Tensor, moment: torch.Tensor) -> None:
    def lost(change: float) -> float:
        def forgetful(panel: Panel) -> Array:
            wanted = panel.exact + change * (panel.wanted - panel.exact)
            return rounder(Panel(panel.channels, panel.exact, wanted, panel.debts * change, panel.importance))

        rounder = PlainRounder(weight.shape)
        compensate(weight, moment, torch.arange(96), 32, forgetful)
        error = torch.from_numpy(rounder.values) - weight
        return float(((error @ moment) * error).sum())

    assert lost(1.0) < 0.5 * lost(0.0)
    assert lost(1.0) < lost(-1.0)
