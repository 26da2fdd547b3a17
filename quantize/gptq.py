"""Rounding with compensated errors (GPTQ: Frantar et al., 2022, arXiv:2210.17323), for every format.

A layer's weights are rounded an input channel at a time, and the error of each is repaid by those after it.
With the moment of the inputs as R R', R upper, the loss of errors e is |R' e|^2, whose row i has only e_1 ..
e_i: so what those before i owe is repaid where channel i errs by -(R' e)_i / R_ii. This is GPTQ without an
inverse (it is Babai's nearest plane: Chen et al., 2025, arXiv:2507.18553).

Channels are worked on in panels: between panels the debts are one matrix product, and within one they are
few enough for a core's cache. What a weight may be is the format's own matter: see `Rounder`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Panel:
    """Input channels that are rounded together.

    Args:
        channels: which they are.
        exact: their weights, (channels, out).
        wanted: what the weights would have to be to repay all that the channels before the panel owe.
        debts: what an error of one (column) makes a later one (row) owe, (channels, channels).
        importance: what an error of each costs that is not repaid, (channels,).
    """

    channels: list[int]
    exact: Array
    wanted: Array
    debts: Array
    importance: Array


# Gives what the weights of a panel become, (channels, out), having taken note of how they are stored.
# In NumPy: these are thousands of small steps, each of which costs PyTorch several times its work.
Rounder = Callable[[Panel], Array]


def compensate(weight: Tensor, moment: Tensor, order: Tensor, width: int, round_panel: Rounder) -> None:
    """Has every weight rounded by `round_panel`, in panels of `width` channels.

    Args:
        weight: float (out, in).
        moment: (in, in), the second moment, or covariance, of the layer's input, damped.
        order: the input channels in the order of rounding; those whose errors cost most belong first.
        width: channels of a panel.
        round_panel: called for one panel after the other.
    """
    root = upper_root(moment[order][:, order])
    diagonal = root.diagonal()
    debts = (root / diagonal).T.contiguous()
    importance = diagonal.square().numpy()
    exact = weight.T[order]
    errors = torch.zeros_like(exact)
    channels = order.tolist()
    for start in range(0, len(exact), width):
        panel = slice(start, start + width)
        wanted = torch.addmm(exact[panel], debts[panel, :start], errors[:start])
        given = Panel(
            channels[panel],
            exact[panel].numpy(),
            wanted.numpy(),
            debts[panel, panel].numpy(),
            importance[panel],
        )
        errors[panel] = torch.from_numpy(given.exact - round_panel(given))


def damped(moment: Tensor, damping: float) -> Tensor:
    """`moment` with that share of its mean diagonal added to the diagonal: safe to decompose."""
    safe = moment.clone()
    safe.diagonal().add_(damping * moment.diagonal().mean().clamp(min=1e-12))
    return safe


def by_importance(moment: Tensor, unit: int) -> Tensor:
    """Channels in runs of `unit`, those of largest input first: their errors have the most to repay them."""
    runs = moment.diagonal().reshape(-1, unit).sum(1).argsort(descending=True, stable=True)
    return (unit * runs[:, None] + torch.arange(unit)).flatten()


def upper_root(moment: Tensor) -> Tensor:
    """The upper R in moment = R R': the Cholesky factor of the moment read backwards.

    In single precision, which the damping allows; in double where it does not.
    """
    backwards = moment.flip(0, 1)
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(backwards)
    if failed:
        root = torch.linalg.cholesky(backwards.double()).float()
    return root.flip(0, 1)
