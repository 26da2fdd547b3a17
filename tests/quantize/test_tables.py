"""Embedding tables: what is rounded is what the table gives."""

from __future__ import annotations

import torch

from ringkas.quantize.coding import round_table
from ringkas.quantize.for_onnx.layers import BlockTable, CodeTable, QuantizedTable
from ringkas.quantize.tables import column_factors, round_blocks, round_rows, rows_of


def scaled_table() -> torch.nn.Embedding:
    from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding

    torch.manual_seed(1)
    made: torch.nn.Embedding = Gemma3TextScaledWordEmbedding(40, 64, 0, embed_scale=64**0.5)
    return made


def test_a_table_that_scales_what_it_looks_up_is_rounded_scaled() -> None:
    table, ids = scaled_table().requires_grad_(False), torch.arange(1, 40)
    expected = table(ids)
    for found in (
        QuantizedTable(*round_rows(rows_of(table)))(ids),
        BlockTable(*round_blocks(rows_of(table), 32))(ids),
        CodeTable(*round_table(rows_of(table), torch.eye(64), 0.1, 4))(ids),
    ):
        ratio = found.norm() / expected.norm()
        assert abs(float(ratio) - 1) < 0.01
    bare = QuantizedTable(*round_rows(table.weight.detach()))(ids)  # as if nobody had thought of the scale
    assert float(bare.norm() / expected.norm()) < 0.2


def test_a_plain_table_is_not_copied() -> None:
    table = torch.nn.Embedding(4, 8)
    assert rows_of(table).data_ptr() == table.weight.data_ptr()


def test_columns_that_stand_out_are_divided_first() -> None:
    even = torch.randn(300, 64, generator=torch.Generator().manual_seed(2))
    assert column_factors(even) is None  # an operator that gains nothing
    table = even * torch.ones(64).index_fill(0, torch.tensor([5, 40]), 30.0)
    columns, ids = column_factors(table), torch.arange(300)
    assert columns is not None
    errors = [
        float((made(ids) - table)[:, :5].norm())
        for made in (
            QuantizedTable(*round_rows(table / columns), columns),
            QuantizedTable(*round_rows(table)),
        )
    ]
    assert errors[0] < 0.5 * errors[1]
