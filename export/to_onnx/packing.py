"""Four-bit weights on disk: INT4 tensors, expanded at load by operators that ONNX Runtime folds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ringkas.export.to_onnx.folding import add_initializer

if TYPE_CHECKING:
    import onnx_ir

    from ringkas.quantize.rounding import Rounded


def pack_layers(model: onnx_ir.Model, packed: Mapping[str, Rounded]) -> None:
    """Each layer's int8 weight becomes its 4-bit levels times its multipliers: the same integers.

    The products are constants, so they are computed once, while the session is made.
    """
    for name, rounded in packed.items():
        value = model.graph.initializers[f"encoder.{name}.weight"]
        assert rounded.levels is not None
        assert rounded.multipliers is not None
        levels = rounded.levels.T.contiguous().numpy()
        multipliers = rounded.multipliers.T.contiguous().numpy()
        _expand(model, value, levels, multipliers)


def pack_token_table(model: onnx_ir.Model) -> None:
    """The levels that a GatherBlockQuantized looks up become 4-bit: the tracer has no such type."""
    import onnx_ir

    for node in model.graph:
        if node.op_type == "GatherBlockQuantized":
            table = node.inputs[0]
            assert table is not None
            assert table.const_value is not None
            table.const_value = _int4(table.const_value.numpy(), str(table.name))
            table.dtype = onnx_ir.DataType.INT4


def _expand(
    model: onnx_ir.Model,
    value: onnx_ir.Value,
    levels: npt.NDArray[np.int8],
    multipliers: npt.NDArray[np.int8],
) -> None:
    """Replaces `value` (in, out) by levels (blocks, block, out) times multipliers (blocks, 1, out)."""
    import onnx_ir

    graph, name = model.graph, str(value.name)
    inputs, outputs = levels.shape
    blocks = len(multipliers)
    kept = add_initializer(graph, _int4(levels.reshape(blocks, -1, outputs), f"{name}.levels"))
    factors = add_initializer(graph, onnx_ir.tensor(multipliers[:, None, :], name=f"{name}.multipliers"))
    shape = add_initializer(graph, onnx_ir.tensor(np.array([inputs, outputs]), name=f"{name}.shape"))
    real, integer = onnx_ir.DataType.FLOAT, onnx_ir.DataType.INT8
    wide = onnx_ir.node("Cast", [kept], {"to": real})
    scaled = onnx_ir.node("Cast", [factors], {"to": real})
    product = onnx_ir.node("Mul", [wide.outputs[0], scaled.outputs[0]])
    flat = onnx_ir.node("Reshape", [product.outputs[0], shape])
    cast = onnx_ir.node("Cast", [flat.outputs[0]], {"to": integer})
    for index, node in enumerate((wide, scaled, product, flat, cast)):
        node.outputs[0].name = f"{name}.expanded.{index}"
    graph.insert_before(graph[0], [wide, scaled, product, flat, cast])
    value.replace_all_uses_with(cast.outputs[0])
    del graph.initializers[name]


def _int4(levels: npt.NDArray[np.int8], name: str) -> onnx_ir.TensorProtocol:
    import ml_dtypes
    import onnx_ir

    return onnx_ir.Tensor(levels.astype(ml_dtypes.int4), dtype=onnx_ir.DataType.INT4, name=name)
