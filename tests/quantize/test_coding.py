"""Tables of codes: what a code names is what stands there, and errors go where they cost little."""

from __future__ import annotations

import torch

from ringkas.quantize.coding import round_table
from ringkas.quantize.for_onnx.layers import CodeTable

DAMPING = 0.1


def output_error(weight: torch.Tensor, approximation: torch.Tensor, moment: torch.Tensor) -> float:
    error = (weight - approximation).double()
    return float(((error @ moment.double()) * error).sum())


def test_a_table_of_codes_gives_the_entries_that_its_codes_name() -> None:
    generator = torch.Generator().manual_seed(2)
    table = torch.randn(2000, 24, generator=generator)
    codes, entries = round_table(table, torch.eye(24), DAMPING, 3)
    assert (codes.dtype, codes.shape) == (torch.uint8, (2000, 8))
    assert (entries.dtype, entries.shape) == (torch.float16, (8, 256, 3))
    ids = torch.tensor([[5, 1999, 0], [7, 7, 1]])
    expected = torch.stack([
        torch.cat([entries[place, int(code)] for place, code in enumerate(codes[id])])
        for id in ids.flatten()
    ]).reshape(2, 3, 24)  # fmt: skip
    found = CodeTable(codes, entries)(ids)
    assert torch.equal(found, expected.float())
    # 256 entries for three normal values lose about a twentieth of their variance.
    whole = CodeTable(codes, entries)(torch.arange(2000)[None])[0]
    assert (whole - table).square().mean() < 0.05
    assert (CodeTable(codes.roll(1, 1), entries)(torch.arange(2000)[None])[0] - table).square().mean() > 0.5


def test_a_tables_errors_go_where_they_cost_little() -> None:
    generator = torch.Generator().manual_seed(12)
    table = torch.randn(2000, 24, generator=generator)
    # A few directions, along no axis, are nearly all that counts.
    turned = torch.randn(24, 6, generator=generator)
    moment = turned @ turned.T + 0.01 * torch.eye(24)
    ids = torch.arange(2000)[None]
    aware, blind = (
        CodeTable(*round_table(table, metric, 0.01, 4))(ids)[0] for metric in (moment, torch.eye(24))
    )
    assert output_error(table, aware, moment) < 0.5 * output_error(table, blind, moment)
    assert (aware - table).square().mean() > (blind - table).square().mean()


def test_a_table_of_zeros_and_costs_of_zero_stay_finite() -> None:
    for table in (torch.zeros(20, 8), torch.randn(20, 8, generator=torch.Generator().manual_seed(1))):
        codes, entries = round_table(table, torch.zeros(8, 8), DAMPING, 4)
        found = CodeTable(codes, entries)(torch.arange(20)[None])[0]
        # Of fewer rows than entries each has its own, to within float16.
        torch.testing.assert_close(found, table, atol=2e-3, rtol=2e-3)
