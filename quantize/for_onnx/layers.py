"""The layers of a quantised encoder: integers inside, exported as ONNX Runtime's own integer operators.

In PyTorch they compute the same numbers in float32 (a simulation); while a graph is traced they emit
QuantizeLinear and com.microsoft's MatMulIntegerToFloat, which every build of ONNX Runtime has, also the one
for the web.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ringkas.quantize.rounding import Rounded
from ringkas.quantize.smooth import LEVELS, Affine

# The smallest top of a row: a row of zeros must not divide by zero.
_LEAST_TOP = 1e-8


class QuantizedInput(nn.Module):
    """Float (..., in) to the integers 0..255, by constants. Shared by the layers that have the same input."""

    shift: Tensor
    factor: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, affine: Affine) -> None:
        super().__init__()
        self.plain = bool((affine.shift == 0).all() and (affine.factor == 1).all())
        self.register_buffer("shift", affine.shift.clone())
        self.register_buffer("factor", affine.factor.clone())
        self.register_buffer("scale", torch.tensor(affine.scale))
        self.register_buffer("zero_point", torch.tensor(affine.zero_point, dtype=torch.uint8))

    def forward(self, values: Tensor) -> Tensor:
        if not self.plain:
            values = (values - self.shift) * self.factor
        return _quantize(values, self.scale, self.zero_point)


class StaticLinear(nn.Module):
    """A linear layer whose input is quantised by constants."""

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor

    def __init__(self, rounded: Rounded, bias: Tensor, quantized_input: QuantizedInput) -> None:
        super().__init__()
        self.input = quantized_input
        self.register_buffer("weight", rounded.integers.T.contiguous())
        self.register_buffer("weight_scale", rounded.scale.clone())
        self.register_buffer("bias", bias.clone())

    def forward(self, values: Tensor) -> Tensor:
        given = self.input
        scales = [given.scale, self.weight_scale, given.zero_point]
        return _product(given(values), self.weight, scales, self.bias)


class Outliers(nn.Module):
    """Input channels that are multiplied in float: `rest` is 0 where one is, else 1; `weight` is (n, out)."""

    channels: Tensor
    rest: Tensor
    weight: Tensor

    def __init__(self, channels: Tensor, width: int, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("channels", channels)
        self.register_buffer("rest", torch.ones(width).index_fill(0, channels, 0.0))
        self.register_buffer("weight", weight.T.contiguous())

    def forward(self, values: Tensor) -> Tensor:
        return values.index_select(-1, self.channels) @ self.weight


class RowLinear(nn.Module):
    """A linear layer whose input is quantised row by row: a row is one token of one text.

    With a least value `lowest` (GELU's is -0.17) the zero point sits low and the positive side gets the rest;
    without one (None) the range is symmetric. The channels are shifted and scaled before, where `affine` says
    so.
    """

    weight: Tensor
    weight_scale: Tensor
    bias: Tensor
    step: Tensor
    zero_point: Tensor
    shift: Tensor
    factor: Tensor

    def __init__(
        self,
        rounded: Rounded,
        bias: Tensor,
        lowest: float | None,
        affine: Affine | None = None,
        outliers: Outliers | None = None,
    ) -> None:
        super().__init__()
        self.lowest, self.moved, self.outliers = lowest, affine is not None, outliers
        self.register_buffer("weight", rounded.integers.T.contiguous())
        self.register_buffer("weight_scale", rounded.scale.clone())
        self.register_buffer("bias", bias.clone())
        zero = (LEVELS + 1) // 2 if lowest is None else 16 if lowest < 0 else 0
        steps = LEVELS - zero  # above the zero point; a row's top is so many steps
        # The least top: by a smaller one GELU's least value would fall below the levels.
        self.least = _LEAST_TOP if not lowest else -lowest / zero * steps
        self.register_buffer("step", torch.tensor(1.0 / steps))
        self.register_buffer("zero_point", torch.tensor(zero, dtype=torch.uint8))
        if affine is not None:
            self.register_buffer("shift", affine.shift.clone())
            self.register_buffer("factor", affine.factor.clone())

    def forward(self, values: Tensor) -> Tensor:
        if self.moved:
            values = (values - self.shift) * self.factor
        direct = None
        if self.outliers is not None:
            direct, values = self.outliers(values), values * self.outliers.rest
        top = (values.abs() if self.lowest is None else values).amax(dim=-1, keepdim=True)
        top = top.clamp(min=self.least)
        levels = _quantize(values / top, self.step, self.zero_point)
        product = _product(levels, self.weight, [self.step, self.weight_scale, self.zero_point], None) * top
        # The bias last: there the graph's rewrites look for it.
        return (product if direct is None else product + direct) + self.bias


class FloatLinear(nn.Module):
    """A linear layer whose input stays float; its weight is written as integers in blocks (`pack_layers`)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, rounded: Rounded, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", rounded.weights().T.contiguous())
        self.register_buffer("bias", bias.clone())

    def forward(self, values: Tensor) -> Tensor:
        return values @ self.weight + self.bias


class QuantizedTable(nn.Module):
    """An embedding table of int8 rows, each with its scale: looked up first, then made float.

    `columns` is what the table was divided by before, if it was: (width,).
    """

    weight: Tensor
    scale: Tensor
    columns: Tensor

    def __init__(self, integers: Tensor, scale: Tensor, columns: Tensor | None = None) -> None:
        super().__init__()
        self.divided = columns is not None
        self.register_buffer("weight", integers)
        self.register_buffer("scale", scale)
        if columns is not None:
            self.register_buffer("columns", columns)

    def forward(self, ids: Tensor) -> Tensor:
        values = functional.embedding(ids, self.weight).float() * functional.embedding(ids, self.scale)
        return values * self.columns if self.divided else values


class BlockTable(nn.Module):
    """An embedding table of 4-bit levels, two in a byte, and a float16 scale for each block of a row.

    A byte holds the levels, each plus 8, of one place in a block's first half (the low bits) and of the same
    place in its second half, so that to unpack a block is to put two halves side by side. Each operator is
    ONNX's own: the build that a browser loads by default has no GatherBlockQuantized
    (tests/export/to_onnx/test_default_browser_build.py), and onnxruntime before 1.23 none of 4 bits in this
    form.
    """

    weight: Tensor
    scale: Tensor
    low: Tensor
    bits: Tensor
    shape: Tensor

    def __init__(self, levels: Tensor, scale: Tensor) -> None:
        super().__init__()
        rows, self.width = levels.shape
        blocks = (levels + 8).to(torch.uint8).reshape(rows, scale.shape[1], -1)
        first, second = blocks.chunk(2, dim=2)
        self.register_buffer("weight", first | (second << 4))
        self.register_buffer("scale", scale.to(torch.float16).unsqueeze(2))
        self.register_buffer("low", torch.tensor(15, dtype=torch.uint8))
        self.register_buffer("bits", torch.tensor(4, dtype=torch.uint8))
        self.register_buffer("shape", torch.tensor([0, 0, self.width]))

    def forward(self, ids: Tensor) -> Tensor:
        pairs = _rows(self.weight, ids)
        if torch.compiler.is_exporting():
            first = _operator("BitwiseAnd", [pairs, self.low], pairs.shape)
            second = _operator("BitShift", [pairs, self.bits], pairs.shape, direction="RIGHT")
        else:
            first, second = pairs & self.low, pairs >> self.bits
        values = (torch.cat([first, second], dim=-1).float() - 8) * _rows(self.scale, ids).float()
        # Rounded to the scale's type, as the operator for such tables does.
        return _joined(values, self.shape, self.width).half().float()


class BlockTable8(nn.Module):
    """An embedding table of int8 rows with a float16 scale for each of a row's blocks."""

    weight: Tensor
    scale: Tensor
    shape: Tensor

    def __init__(self, rounded: Rounded) -> None:
        super().__init__()
        self.width = rounded.integers.shape[1]
        self.register_buffer("weight", rounded.integers.reshape(*rounded.scale.shape, -1))
        self.register_buffer("scale", rounded.scale.to(torch.float16).unsqueeze(2))
        self.register_buffer("shape", torch.tensor([0, 0, self.width]))

    def forward(self, ids: Tensor) -> Tensor:
        values = _rows(self.weight, ids).float() * _rows(self.scale, ids).float()
        return _joined(values, self.shape, self.width)


class CodeTable(nn.Module):
    """An embedding table of codes: a byte for some neighbours of a row, and 256 entries for each such place.

    What is looked up is a row's codes, and then the entries that they name. So the table takes as little
    memory as it does disk, and every operator is ONNX's own.
    """

    weight: Tensor
    entries: Tensor
    first: Tensor
    shape: Tensor

    def __init__(self, codes: Tensor, entries: Tensor) -> None:
        super().__init__()
        places, size, values = entries.shape
        self.width = places * values
        self.register_buffer("weight", codes)
        self.register_buffer("entries", entries.flatten(0, 1))
        self.register_buffer("first", size * torch.arange(places, dtype=torch.int32))
        self.register_buffer("shape", torch.tensor([0, 0, self.width]))

    def forward(self, ids: Tensor) -> Tensor:
        named = functional.embedding(ids, self.weight).int() + self.first
        return _joined(functional.embedding(named, self.entries), self.shape, self.width).float()


def _rows(table: Tensor, ids: Tensor) -> Tensor:
    """A table's rows by id, of any shape and type: (..., *table.shape[1:])."""
    if torch.compiler.is_exporting():
        return _operator("Gather", [table, ids], (*ids.shape, *table.shape[1:]))
    return table[ids]


def _joined(values: Tensor, shape: Tensor, width: int) -> Tensor:
    """The last two axes as one of `width`. `shape` says so to the graph: [0, 0, width]."""
    if torch.compiler.is_exporting():
        return _operator("Reshape", [values, shape], (*values.shape[:-2], width))
    return values.flatten(-2)


def _operator(name: str, inputs: Sequence[Tensor], shape: Sequence[int], **attributes: str) -> Tensor:
    """An operator of ONNX's own with the type of its first input, for what the tracer writes longer."""
    attrs: dict[str, Any] = dict(attributes)
    made: Tensor = torch.onnx.ops.symbolic(
        name, inputs, attrs=attrs, dtype=inputs[0].dtype, shape=shape, version=21
    )
    return made


def _quantize(values: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    if torch.compiler.is_exporting():
        levels: Tensor = torch.onnx.ops.symbolic(
            "QuantizeLinear", [values, scale, zero_point], dtype=torch.uint8, shape=values.shape, version=20
        )
        return levels
    return (torch.round(values / scale) + zero_point).clamp(0, LEVELS).to(torch.uint8)


def _product(levels: Tensor, weight: Tensor, scales: Sequence[Tensor], bias: Tensor | None) -> Tensor:
    """`scales`: the input's scale, the weight's scale, the input's zero point."""
    input_scale, weight_scale, zero_point = scales
    if torch.compiler.is_exporting():
        product: Tensor = torch.onnx.ops.symbolic(
            "com.microsoft::MatMulIntegerToFloat",
            [levels, weight, input_scale, weight_scale, zero_point, None, bias],
            dtype=torch.float32, shape=(*levels.shape[:-1], weight.shape[1]), version=1,
        )  # fmt: skip
        return product
    product = ((levels.float() - zero_point) @ weight.float()) * (input_scale * weight_scale)
    return product if bias is None else product + bias
