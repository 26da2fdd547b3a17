"""ONNX in 8 and 4 bits: the quantised twin of the reference, traced as the reference is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from ringkas.checkpoint import Checkpoint
from ringkas.export import onnx_graph
from ringkas.quantize.schemes import ROLES, OnnxScheme

if TYPE_CHECKING:
    import onnx_ir

    from ringkas.quantize.encoder import Quantized

# The first that has 4-bit tensors as inputs of Cast.
OPSET = 21


def write_quantized(
    checkpoint: Checkpoint, scheme: OnnxScheme, folder: Path, file: str = onnx_graph.MODEL_FILE
) -> tuple[str, dict[str, object]]:
    """Writes the graph of `scheme` as `file` in `folder`; that name, and the scheme as recorded.

    Raises:
        CheckpointError: the weights cannot be loaded.
        TargetError: the scheme names a layer that is not there.
    """
    from ringkas.quantize.encoder import quantize

    with quantize(checkpoint, scheme) as quantized:
        return write_twin(checkpoint, scheme, quantized, folder, file)


def write_twin(
    checkpoint: Checkpoint,
    scheme: OnnxScheme,
    quantized: Quantized,
    folder: Path,
    file: str = onnx_graph.MODEL_FILE,
) -> tuple[str, dict[str, object]]:
    """As `write_quantized`, of a twin that is there already."""
    from ringkas.export.onnx_attention import multi_head
    from ringkas.export.onnx_packing import pack_layers, pack_token_table

    with multi_head(quantized.reference, checkpoint.family.name):
        model = onnx_graph.trace(checkpoint, quantized.reference, OPSET)
    _share(model)
    _sum_residuals(model)
    _drop_head_splits(model)
    pack_layers(model, quantized.packed)
    pack_token_table(model)
    onnx_graph.save(model, folder, file)
    return file, _record(checkpoint, scheme, quantized, onnx_graph.weight_bytes(model))


def _record(
    checkpoint: Checkpoint, scheme: OnnxScheme, quantized: Quantized, stored: int
) -> dict[str, object]:
    """The scheme in full, with what its patterns and budgets came to, and what the weights weigh."""
    roles = ROLES[checkpoint.family.name]
    return {
        **{key: value for key, value in asdict(scheme).items() if key != "target"},
        "activations": {role.name: scheme.handling(role).value for role in roles},
        "wide_layers": list(quantized.wide),
        "float_layers": list(quantized.floating),
        "opset": OPSET,
        "computed": "unsigned 8-bit activations times signed 8-bit weights, 32-bit sums",
        "calibration": {"texts": quantized.texts, "tokens": quantized.tokens},
        "stored_bits_per_weight": round(8 * stored / quantized.weights, 3),
    }


def _share(model: onnx_ir.Model) -> None:
    """Layers with the same input quantise it once: their nodes are equal, and equal nodes become one."""
    from onnx_ir.passes import common

    for step in (
        common.DeduplicateInitializersPass(size_limit=4096),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
    ):
        step(model)


def _sum_residuals(model: onnx_ir.Model) -> None:
    """Residual additions become Sum, the same operation under a name that ONNX Runtime does not fuse.

    Its SkipLayerNormalization takes five times as long on a CPU as Sum and LayerNormalization.
    """
    for node in model.graph:
        if node.op_type == "LayerNormalization" and node.inputs[0] is not None:
            producer = node.inputs[0].producer()
            if producer is not None and producer.op_type == "Add":
                producer.op_type = "Sum"


def _drop_head_splits(model: onnx_ir.Model) -> None:
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


def _reshaped(value: onnx_ir.Value | None) -> onnx_ir.Value | None:
    """What was reshaped to give `value`; None where that is not what made it."""
    node = None if value is None else value.producer()
    return node.inputs[0] if node is not None and node.op_type == "Reshape" else None


def _reshapes_of(value: onnx_ir.Value) -> list[onnx_ir.Value]:
    return [use.node.outputs[0] for use in value.uses() if use.node.op_type == "Reshape"]
