"""Calibration: batches with padding give the statistics of one text at a time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from ringkas import open_checkpoint
from ringkas.quantize import calibrate
from ringkas.quantize.calibrate import Inputs, collect, groups, token_ids
from ringkas.runtimes.reference import load_reference


def gathered(rows: Sequence[Sequence[int]], covariance_width: int | None = None) -> list[Inputs]:
    checkpoint = open_checkpoint("demo")
    reference = load_reference(checkpoint, attention="eager")
    wanted = groups(reference.encoder, checkpoint.family)[:8]
    return list(collect(reference, wanted, rows, covariance_width).values())


def test_padding_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = token_ids(open_checkpoint("demo"), 700)
    assert len({len(row) for row in rows}) > 3
    together = gathered(rows)
    monkeypatch.setattr(calibrate, "_BATCH_TOKENS", 1)
    alone = gathered(rows)
    for one, other in zip(together, alone, strict=True):
        assert one.tokens == other.tokens == sum(map(len, rows))
        for field in ("low", "high", "mean", "covariance"):
            torch.testing.assert_close(getattr(one, field), getattr(other, field), rtol=1e-3, atol=1e-4)


def test_the_covariance_is_that_of_the_inputs() -> None:
    values = torch.randn(300, 1030)  # wider than one panel
    one = calibrate._Gathered()
    for part in values.split(100):
        one.add(part)
    torch.testing.assert_close(
        one.result().covariance, torch.cov(values.T, correction=0), rtol=1e-3, atol=1e-4
    )


def test_of_wide_inputs_only_the_variances_are_gathered() -> None:
    rows = token_ids(open_checkpoint("demo"), 700)
    whole, limited = gathered(rows), gathered(rows, covariance_width=384)
    widths = [len(one.mean) for one in whole]
    assert [one.covariance.dim() for one in limited] == [2 if width <= 384 else 1 for width in widths]
    assert set(widths) == {384, 1536}
    for one, other in zip(whole, limited, strict=True):
        expected = one if other.covariance.dim() == 2 else one.without_covariance()
        for field in ("low", "high", "mean", "covariance"):
            torch.testing.assert_close(getattr(other, field), getattr(expected, field), rtol=1e-3, atol=1e-4)
