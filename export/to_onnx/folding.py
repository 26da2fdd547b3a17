"""Rewrites of the traced graph that take time from it and leave its numbers: what the tracer cannot know.

Times are of the demo checkpoint in 8 bits on two cores without VNNI, interleaved in one process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import onnx_ir

# Where MatMulIntegerToFloat has what.
_LEVELS, _WEIGHT, _INPUT_SCALE, _WEIGHT_SCALE, _ZERO_POINT, _BIAS = 0, 1, 2, 3, 4, 6
# Activations of zero that are zero.
_ZERO_AT_ZERO = {"Gelu", "Relu"}
# Where MultiHeadAttention has which tokens count, and what is added to the scores.
_VALID, _ADDED = 4, 5


def share_equal_nodes(model: onnx_ir.Model, size_limit: int = 1024) -> None:
    """Equal nodes become one, and equal constants of at most `size_limit` values."""
    from onnx_ir.passes import common

    for step in (
        common.DeduplicateInitializersPass(size_limit),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    ):
        step(model)


def fold_shifts(model: onnx_ir.Model) -> None:
    """What is subtracted from a LayerNormalization's output goes into its bias: 3% of the time.

    The residual addition that takes the same output gets the shift back from the layer it adds.
    """
    for node in list(model.graph):
        if node.op_type == "LayerNormalization" and not node.outputs[0].is_graph_output():
            _fold_shift(model.graph, node)


def part_outliers(model: onnx_ir.Model) -> None:
    """What is multiplied in float is made apart from the rest of its layer, which is then 0 there by itself.

    Otherwise all channels are copied to set a few to zero: 5% of the time of a batch.
    """
    from onnx_ir.passes import common

    for node in list(model.graph):
        if node.op_type in _ZERO_AT_ZERO:
            _part_outliers(model.graph, node)
    common.RemoveUnusedNodesPass()(model)


def sum_residuals(model: onnx_ir.Model) -> None:
    """Residual additions become Sum, the same operation under a name that ONNX Runtime does not fuse.

    Its SkipLayerNormalization takes five times as long on a CPU as Sum and LayerNormalization.
    """
    for node in model.graph:
        if node.op_type == "LayerNormalization" and node.inputs[0] is not None:
            producer = node.inputs[0].producer()
            if producer is not None and producer.op_type == "Add":
                producer.op_type = "Sum"


def drop_head_splits(model: onnx_ir.Model) -> None:
    """MultiHeadAttention takes and gives heads side by side: to split and to join them does nothing.

    PyTorch's attention has them apart; left in, the copies are a tenth of the time of a short text.
    """
    from onnx_ir.passes import common

    for node in model.graph:
        if node.op_type != "MultiHeadAttention":
            continue
        for index in range(3):
            joined = _reshaped(node.inputs[index])
            whole = _reshaped(joined)
            if whole is not None:
                node.replace_input_with(index, whole)
        for split in _reshapes_of(node.outputs[0]):
            for joined in _reshapes_of(split):
                joined.replace_all_uses_with(node.outputs[0])
    common.RemoveUnusedNodesPass()(model)


def fuse_attention(model: onnx_ir.Model) -> None:
    """MultiHeadAttention and the three products before it become QAttention: 5 to 10% of the time.

    It is the same computation, bit for bit; its products are made head by head, where attention wants them.
    """
    from onnx_ir.passes import common

    for node in list(model.graph):
        if node.op_type != "MultiHeadAttention" or _given(node, _ADDED) is not None:
            continue  # QAttention adds nothing to the scores
        makers = [None if value is None else value.producer() for value in node.inputs[:3]]
        layers = [maker for maker in makers if maker and maker.op_type == "MatMulIntegerToFloat"]
        if len(layers) == 3:  # none was left in float
            _fuse(model.graph, node, layers)
    common.RemoveUnusedNodesPass()(model)


def add_initializer(graph: onnx_ir.Graph, tensor: onnx_ir.TensorProtocol) -> onnx_ir.Value:
    """A constant of the graph."""
    import onnx_ir

    value = onnx_ir.Value(
        name=tensor.name,
        shape=onnx_ir.Shape(tensor.numpy().shape),
        type=onnx_ir.TensorType(tensor.dtype),
        const_value=tensor,
    )
    graph.register_initializer(value)
    return value


def _fold_shift(graph: onnx_ir.Graph, norm: onnx_ir.Node) -> None:
    users = [use.node for use in norm.outputs[0].uses()]
    minus = [user for user in users if user.op_type == "Sub"]
    owed = [_bias_beside(user, norm.outputs[0]) for user in users if user.op_type != "Sub"]
    shift = _constant(minus[0].inputs[1]) if len(minus) == 1 else None
    if shift is None or minus[0].inputs[0] is not norm.outputs[0]:
        return
    biases = [(norm, 2, -shift)]
    for place in owed:
        if place is None:  # some other use, which wants the output as it is
            return
        biases.append((*place, shift))
    for node, at, change in biases:
        _change_bias(graph, node, at, change)
    minus[0].outputs[0].replace_all_uses_with(norm.outputs[0])
    graph.remove(minus, safe=True)


def _bias_beside(addition: onnx_ir.Node, value: onnx_ir.Value) -> tuple[onnx_ir.Node, int] | None:
    """Where the constant lies that is part of what is added to `value` and of nothing else."""
    others = [given for given in addition.inputs if given is not value]
    if addition.op_type != "Add" or len(others) != 1 or others[0] is None or len(others[0].uses()) != 1:
        return None
    layer = others[0].producer()
    if layer is None:
        return None
    at = {"MatMulIntegerToFloat": _BIAS, "Add": 1}.get(layer.op_type)
    return None if at is None or _constant(_given(layer, at)) is None else (layer, at)


def _change_bias(graph: onnx_ir.Graph, node: onnx_ir.Node, at: int, change: npt.NDArray[np.float32]) -> None:
    bias = _constant(_given(node, at))
    changed = change if bias is None else bias + change
    value = _added(graph, f"{node.outputs[0].name}.bias", changed.astype(np.float32))
    if at >= len(node.inputs):
        node.resize_inputs(at + 1)
    node.replace_input_with(at, value)


def _part_outliers(graph: onnx_ir.Graph, activation: onnx_ir.Node) -> None:
    import onnx_ir

    before = activation.inputs[0]
    layer = None if before is None or len(before.uses()) != 1 else before.producer()
    if layer is None or layer.op_type != "MatMulIntegerToFloat":
        return
    users = {use.node.op_type: use.node for use in activation.outputs[0].uses()}
    if users.keys() != {"Gather", "Mul"} or len(activation.outputs[0].uses()) != 2:
        return
    channels, rest = _constant(users["Gather"].inputs[1]), _constant(users["Mul"].inputs[1])
    if channels is None or rest is None or not np.array_equal(np.flatnonzero(rest == 0), channels):
        return
    apart, kept = list(layer.inputs), list(layer.inputs)
    for at in (_WEIGHT, _WEIGHT_SCALE, _BIAS):
        value = _given(layer, at)
        whole = _constant(value)
        if value is None or whole is None:
            return
        apart[at] = _added(graph, f"{value.name}.apart", whole[..., channels])
        if at != _WEIGHT:
            without = np.where(rest == 0, 0, whole).astype(whole.dtype)
            kept[at] = _added(graph, f"{value.name}.rest", without)
    product = onnx_ir.node(layer.op_type, apart, domain=layer.domain)
    product.outputs[0].name = f"{layer.outputs[0].name}.apart"
    activated = onnx_ir.node(activation.op_type, product.outputs, activation.attributes)
    activated.outputs[0].name = f"{activation.outputs[0].name}.apart"
    graph.insert_after(activation, [product, activated])
    for at in (_WEIGHT_SCALE, _BIAS):
        layer.replace_input_with(at, kept[at])
    users["Gather"].outputs[0].replace_all_uses_with(activated.outputs[0])
    users["Mul"].outputs[0].replace_all_uses_with(activation.outputs[0])


def _fuse(graph: onnx_ir.Graph, attention: onnx_ir.Node, layers: Sequence[onnx_ir.Node]) -> None:
    import onnx_ir

    inputs = {tuple(layer.inputs[at] for at in (_LEVELS, _INPUT_SCALE, _ZERO_POINT)) for layer in layers}
    heads = attention.attributes["num_heads"].as_int()
    channels = _constant(layers[0].inputs[_WEIGHT_SCALE])
    if len(inputs) != 1 or channels is None:
        return
    # QAttention has no attribute for the scale: it takes this one.
    usual = (channels.size / heads) ** -0.5
    if not math.isclose(attention.attributes["scale"].as_float(), usual, rel_tol=1e-5):
        return
    ((levels, input_scale, zero_point),) = inputs
    weight, weight_scale, bias = (
        _concatenated(graph, [layer.inputs[at] for layer in layers], attention)
        for at in (_WEIGHT, _WEIGHT_SCALE, _BIAS)
    )
    fused = onnx_ir.node(
        "QAttention",
        [levels, weight, bias, input_scale, weight_scale, attention.inputs[_VALID], zero_point],
        {"num_heads": heads},
        domain=attention.domain,
    )
    fused.outputs[0].name = f"{attention.outputs[0].name}.fused"
    graph.insert_before(attention, [fused])
    attention.outputs[0].replace_all_uses_with(fused.outputs[0])


def _concatenated(
    graph: onnx_ir.Graph, values: Iterable[onnx_ir.Value | None], before: onnx_ir.Node
) -> onnx_ir.Value:
    """The values side by side: now, if they are constants, else while the session is made."""
    import onnx_ir

    given = [value for value in values if value is not None]
    name = f"{given[0].name}.joined"
    constants = [found for found in map(_constant, given) if found is not None]
    if len(constants) == len(given):
        return _added(graph, name, np.concatenate(constants, axis=-1))
    node = onnx_ir.node("Concat", given, {"axis": -1})
    node.outputs[0].name = name
    graph.insert_before(before, [node])
    return node.outputs[0]


def _added(graph: onnx_ir.Graph, name: str, values: npt.NDArray[Any]) -> onnx_ir.Value:
    import onnx_ir

    return add_initializer(graph, onnx_ir.tensor(values, name=name))


def _given(node: onnx_ir.Node, at: int) -> onnx_ir.Value | None:
    return node.inputs[at] if at < len(node.inputs) else None


def _constant(value: onnx_ir.Value | None) -> npt.NDArray[np.float32] | None:
    return None if value is None or value.const_value is None else value.const_value.numpy()


def _reshaped(value: onnx_ir.Value | None) -> onnx_ir.Value | None:
    """What was reshaped to give `value`; None where that is not what made it."""
    node = None if value is None else value.producer()
    return node.inputs[0] if node is not None and node.op_type == "Reshape" else None


def _reshapes_of(value: onnx_ir.Value) -> list[onnx_ir.Value]:
    return [use.node.outputs[0] for use in value.uses() if use.node.op_type == "Reshape"]
