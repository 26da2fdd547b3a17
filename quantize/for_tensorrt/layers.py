"""The layers of a TensorRT graph: LayerNorm in float32, and linear layers between QuantizeLinear and
DequantizeLinear.

In PyTorch they compute the same numbers (a simulation in float arithmetic); while a graph is traced they emit
the standard ONNX operators, which TensorRT fuses into 8-bit matrix products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ringkas.quantize.for_onnx.layers import QuantizedTable
from ringkas.quantize.for_tensorrt.schemes import Levels

_TYPES = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
# The first opset whose Q/DQ nodes have 8-bit floats.
_QDQ_VERSION = 21


class WideLayerNorm(nn.Module):
    """LayerNorm in float32 whatever its input: in float16 the squares of values past 256 overflow."""

    def __init__(self, original: nn.LayerNorm) -> None:
        super().__init__()
        self.dtype = original.weight.dtype
        self.original = original.float()

    def forward(self, values: Tensor) -> Tensor:
        normalised: Tensor = self.original(values.float())
        return normalised.to(self.dtype)


class QdqInput(nn.Module):
    """(x - shift) * factor, rounded to 8 bits with one scale. Layers with the same input share it."""

    shift: Tensor
    factor: Tensor
    scale: Tensor

    def __init__(self, shift: Tensor, factor: Tensor, scale: Tensor, levels: Levels) -> None:
        super().__init__()
        self.levels = levels
        self.shifted, self.scaled = bool((shift != 0).any()), bool((factor != 1).any())
        self.register_buffer("shift", shift)
        self.register_buffer("factor", factor)
        self.register_buffer("scale", scale)

    def forward(self, values: Tensor) -> Tensor:
        if self.shifted:
            values = values - self.shift
        if self.scaled:
            values = values * self.factor
        return dequantize(quantize(values, self.scale, self.levels), self.scale)


class QdqLinear(nn.Module):
    """A linear layer whose weight is stored in 8 bits, a scale for each output channel."""

    weight: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor, given: QdqInput) -> None:
        super().__init__()
        self.given = given
        self.register_buffer("weight", weight.T.contiguous())
        self.register_buffer("scale", scale)
        self.register_buffer("bias", bias)

    def forward(self, values: Tensor) -> Tensor:
        product: Tensor = self.given(values) @ dequantize(self.weight, self.scale, axis=1)
        return product + self.bias


class QdqTable(QuantizedTable):
    """An embedding table of int8 rows, each with its scale: made float first, then looked up.

    DequantizeLinear comes before Gather: TensorRT parses a Gather of int8 and then cannot build it.
    """

    def forward(self, ids: Tensor) -> Tensor:
        return functional.embedding(ids, dequantize(self.weight, self.scale, axis=0))


def round_to(values: Tensor, levels: Levels) -> Tensor:
    """The nearest 8-bit values of `values`, clipped to what the type holds."""
    clipped = values.clamp(levels.lowest, levels.largest)
    return (torch.round(clipped) if levels.integer else clipped).to(_TYPES[levels.name])


def quantize(values: Tensor, scale: Tensor, levels: Levels) -> Tensor:
    """QuantizeLinear with one scale and no zero point."""
    if torch.compiler.is_exporting():
        zero = torch.zeros((), dtype=torch.float32).to(_TYPES[levels.name])
        quantized: Tensor = torch.onnx.ops.symbolic(
            "QuantizeLinear",
            [values, scale, zero],
            dtype=zero.dtype,
            shape=values.shape,
            version=_QDQ_VERSION,
        )
        return quantized
    return round_to(values.float() / scale.float(), levels)


def dequantize(values: Tensor, scale: Tensor, axis: int | None = None) -> Tensor:
    """DequantizeLinear, with one scale or one for each index of `axis`; the result has the scale's type."""
    if torch.compiler.is_exporting():
        attrs: dict[str, Any] = {} if axis is None else {"axis": axis}
        result: Tensor = torch.onnx.ops.symbolic(
            "DequantizeLinear", [values, scale], attrs, dtype=scale.dtype, shape=values.shape,
            version=_QDQ_VERSION,
        )  # fmt: skip
        return result
    if axis is not None:
        scale = scale.reshape([-1 if dimension == axis else 1 for dimension in range(values.ndim)])
    return (values.float() * scale.float()).to(scale.dtype)
