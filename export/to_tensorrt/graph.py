"""The strongly typed ONNX graph that a TensorRT plan is built from, on this machine or on the device.

The same file runs in ONNX Runtime (the oracle) and serves TensorRT 10, 11 and RTX.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ringkas.checkpoint import Checkpoint
from ringkas.export.to_onnx import graph as onnx_graph
from ringkas.export.to_onnx.folding import share_equal_nodes
from ringkas.quantize.for_tensorrt.schemes import TensorRTScheme, tensorrt_scheme
from ringkas.spec import TOKEN_OUTPUT

if TYPE_CHECKING:
    import onnx_ir

    from ringkas.quantize.for_tensorrt.twin import Typed


# Plain products around a Softmax. scaled_dot_product_attention is worse below opset 23 (a guard against rows
# of NaN and twice the layers) and no better above: the Attention operator builds into as many layers, but
# older parsers of TensorRT 10 do not know it, and ONNX Runtime's CPU refuses it a mask that is broadcast. So
# one file serves every builder, the oracle, and servers without TensorRT. See benchmarks/tensorrt_build.py.
ATTENTION = "eager"
OPSET = 21


def write_typed_graph(checkpoint: Checkpoint, target: str, folder: Path) -> tuple[str, dict[str, object]]:
    """Writes the graph of `target` into `folder`; its name there, and the scheme as the manifest records it.

    Raises:
        CheckpointError: the weights cannot be loaded.
    """
    from ringkas.quantize.for_tensorrt.twin import typed

    scheme = tensorrt_scheme(target)
    twin = typed(checkpoint, scheme, ATTENTION)
    model = onnx_graph.trace(checkpoint, twin.reference, OPSET)
    # Layers with the same input quantise it once: by equal shifts and factors, as wide as the encoder.
    share_equal_nodes(model, size_limit=4096)
    take_int32(model)
    add_in_float32(model)
    if checkpoint.spec.pooling.include_prompt:
        _drop_output(model, TOKEN_OUTPUT)
    return onnx_graph.save(model, folder), _record(scheme, twin)


def _record(scheme: TensorRTScheme, twin: Typed) -> dict[str, object]:
    record: dict[str, object] = {
        "graph": onnx_graph.MODEL_FILE,
        "compute": scheme.dtype,
        "float32": ["LayerNorm", "residual sums before it", "pooling", "normalisation"],
        "opset": OPSET,
        "least_compute_capability": ".".join(map(str, scheme.least_capability)),
    }
    if scheme.levels is not None:
        record |= {
            "linear": f"{scheme.levels.name}, a scale for each output channel and each input",
            "ranges": {role: kind.value for role, kind in scheme.ranges.items()},
            "input_scales": dict(twin.input_scales),
            "token_table_bits": twin.table_bits,
            "calibration": {"texts": twin.texts, "tokens": twin.tokens},
        }
    return record


def take_int32(model: onnx_ir.Model) -> None:
    """The inputs become int32, cast at once: half the bytes to copy, and no warning from TensorRT."""
    import onnx_ir

    for value in model.graph.inputs:
        value.dtype = onnx_ir.DataType.INT32
        cast = onnx_ir.node("Cast", [value], {"to": onnx_ir.DataType.INT64})
        wide = cast.outputs[0]
        wide.name, wide.dtype, wide.shape = f"{value.name}.int64", onnx_ir.DataType.INT64, value.shape
        value.replace_all_uses_with(wide)
        cast.replace_input_with(0, value)
        model.graph.insert_before(model.graph[0], cast)


def add_in_float32(model: onnx_ir.Model) -> None:
    """A residual sum that only feeds a float32 LayerNorm is itself taken in float32."""
    import onnx_ir

    for cast in [node for node in model.graph if node.op_type == "Cast"]:
        total = cast.inputs[0].producer() if cast.inputs[0] is not None else None
        if total is None or total.op_type != "Add" or not _only_feeds_norm(cast, total):
            continue
        for index, term in enumerate(list(total.inputs)):
            assert term is not None
            wide = onnx_ir.node("Cast", [term], {"to": onnx_ir.DataType.FLOAT})
            wide.outputs[0].name = f"{cast.outputs[0].name}.term{index}"
            wide.outputs[0].dtype, wide.outputs[0].shape = onnx_ir.DataType.FLOAT, term.shape
            model.graph.insert_before(total, wide)
            total.replace_input_with(index, wide.outputs[0])
        total.outputs[0].dtype = onnx_ir.DataType.FLOAT
        cast.outputs[0].replace_all_uses_with(total.outputs[0])
        model.graph.remove(cast, safe=True)


def _only_feeds_norm(cast: onnx_ir.Node, total: onnx_ir.Node) -> bool:
    return (
        len(total.outputs[0].uses()) == 1
        and cast.outputs[0].dtype is not None
        and cast.outputs[0].dtype.name == "FLOAT"
        and all(use.node.op_type == "LayerNormalization" for use in cast.outputs[0].uses())
    )


def _drop_output(model: onnx_ir.Model, name: str) -> None:
    """A plan computes and writes every output it has, asked for or not."""
    from onnx_ir.passes import common

    kept = [value for value in model.graph.outputs if value.name != name]
    model.graph.outputs.clear()
    model.graph.outputs.extend(kept)
    common.RemoveUnusedNodesPass()(model)
