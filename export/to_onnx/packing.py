"""Weights on disk that are computed otherwise, expanded at load by operators that every ONNX Runtime folds.

Four bits are INT4 tensors that become int8, 8 bits in blocks become float. The build that a browser loads by
default, onnxruntime-web's asyncify, folds them too: it has DequantizeLinear of INT4 and no Cast from it
(tests/export/to_onnx/test_default_browser_build.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ringkas.export.to_onnx.folding import add_initializer

if TYPE_CHECKING:
    import onnx_ir

    from ringkas.quantize.rounding import Rounded


def pack_layers(model: onnx_ir.Model, packed: Mapping[str, Rounded]) -> None:
    """Each layer's weight becomes what it is stored as, times its scales: the same numbers.

    The products are constants, so they are computed once, while the session is made.
    """
    _pack_blocks(model, {name: rounded for name, rounded in packed.items() if rounded.in_blocks})
    _pack_levels(model, {name: rounded for name, rounded in packed.items() if not rounded.in_blocks})


def _pack_blocks(model: onnx_ir.Model, packed: Mapping[str, Rounded]) -> None:
    """A float weight (in, out) becomes int8 (blocks, block, out) times float16 scales (blocks, 1, out)."""
    import onnx_ir

    graph = model.graph
    for layer, rounded in packed.items():
        value = graph.initializers[f"encoder.{layer}.weight"]
        name, (width, blocks) = str(value.name), rounded.scale.shape
        integers = rounded.integers.T.reshape(blocks, -1, width).numpy()
        scale = rounded.scale.half().T.unsqueeze(1).contiguous().numpy()
        kept = [
            add_initializer(graph, onnx_ir.tensor(array, name=f"{name}.{part}"))
            for part, array in (("integers", integers), ("scale", scale))
        ]
        floats = [onnx_ir.node("Cast", [one], {"to": onnx_ir.DataType.FLOAT}) for one in kept]
        product = onnx_ir.node("Mul", [node.outputs[0] for node in floats])
        shape = onnx_ir.tensor(np.array(rounded.integers.T.shape), name=f"{name}.shape")
        flat = onnx_ir.node("Reshape", [product.outputs[0], add_initializer(graph, shape)])
        _put_in_place(graph, value, (*floats, product, flat))


def _pack_levels(model: onnx_ir.Model, packed: Mapping[str, Rounded]) -> None:
    """An int8 weight becomes its 4-bit levels times its multipliers."""
    import onnx_ir

    if not packed:
        return
    one = add_initializer(model.graph, onnx_ir.tensor(np.float32(1), name="levels.one"))
    zero = add_initializer(model.graph, onnx_ir.tensor(np.int8(0), name="levels.zero"))
    for name, rounded in packed.items():
        value = model.graph.initializers[f"encoder.{name}.weight"]
        assert rounded.levels is not None
        assert rounded.multipliers is not None
        levels = rounded.levels.T.contiguous().numpy()
        multipliers = rounded.multipliers.T.contiguous().numpy()
        _expand(model, value, (levels, multipliers), (one, zero))


def _expand(
    model: onnx_ir.Model,
    value: onnx_ir.Value,
    weight: tuple[npt.NDArray[np.int8], npt.NDArray[np.int8]],
    plain: tuple[onnx_ir.Value, onnx_ir.Value],
) -> None:
    """Replaces `value` (in, out) by levels (in, out) times the multipliers (blocks, out) of their blocks.

    `plain` is a scale of 1 and a zero point of 0.

    ONNX Runtime computes a DequantizeLinear of constants anew at each run, unless one node with one input and
    then a QuantizeLinear follow, which it folds with it: hence the Flatten, which changes nothing.
    """
    import onnx_ir

    graph, name = model.graph, str(value.name)
    levels, multipliers = weight
    kept = add_initializer(graph, _int4(levels, f"{name}.levels"))
    factors = add_initializer(graph, onnx_ir.tensor(multipliers, name=f"{name}.multipliers"))
    scaled = onnx_ir.node("Cast", [factors], {"to": onnx_ir.DataType.FLOAT})
    block = len(levels) // len(multipliers)
    product = onnx_ir.node("DequantizeLinear", [kept, scaled.outputs[0]], {"axis": 0, "block_size": block})
    between = onnx_ir.node("Flatten", [product.outputs[0]], {"axis": 1})
    integers = onnx_ir.node("QuantizeLinear", [between.outputs[0], *plain])
    _put_in_place(graph, value, (scaled, product, between, integers))


def _put_in_place(graph: onnx_ir.Graph, value: onnx_ir.Value, made: Sequence[onnx_ir.Node]) -> None:
    """The last of `made`, which compute it, for the constant `value`."""
    name = str(value.name)
    for index, node in enumerate(made):
        node.outputs[0].name = f"{name}.expanded.{index}"
    graph.insert_before(graph[0], made)
    value.replace_all_uses_with(made[-1].outputs[0])
    del graph.initializers[name]


def _int4(levels: npt.NDArray[np.int8], name: str) -> onnx_ir.TensorProtocol:
    import ml_dtypes
    import onnx_ir

    return onnx_ir.Tensor(levels.astype(ml_dtypes.int4), dtype=onnx_ir.DataType.INT4, name=name)
