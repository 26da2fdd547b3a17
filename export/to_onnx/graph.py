"""The reference, traced to ONNX: pooling and normalisation inside, two inputs, two float32 outputs.

Attention is exported as plain matrix products and a softmax at opset 20. ONNX Runtime's load-time fusions
make it as fast on a CPU as opset 23's Attention operator or com.microsoft's MultiHeadAttention (each within
the noise of the other: benchmarks/attention_forms.py), and every other runtime can read it.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ringkas.checkpoint import Checkpoint
from ringkas.errors import TargetError
from ringkas.export.to_onnx.browser import DATA_SUFFIX, describe_graphs
from ringkas.export.to_onnx.folding import share_equal_nodes
from ringkas.spec import INPUTS, SENTENCE_OUTPUT, TOKEN_OUTPUT

if TYPE_CHECKING:
    import onnx_ir

    from ringkas.runtimes.reference import Reference

OPSET = 20
MODEL_FILE = "onnx/model.onnx"
# Where clients look that want graph and tokenizer in one place.
FLAT_FILE = "model.onnx"
UNUSED_INPUT = "token_type_ids"
# What transformers.js asks for by its `dtype`: fp32, fp16, q8, q4, and q2, for it has none between.
TRANSFORMERS_JS_FILES = {
    "onnx-fp32": "onnx/model.onnx",
    "onnx-fp16": "onnx/model_fp16.onnx",
    "onnx-int8": "onnx/model_quantized.onnx",
    "onnx-int4": "onnx/model_q4.onnx",
    "onnx-int3": "onnx/model_q2.onnx",
}
# A protobuf message ends at 2 GiB; the graph around the weights needs some of that.
EXTERNAL_DATA_FROM = 2**31 - 2**27
# A tensor of this many bytes, in practice the token table of a full vocabulary, lies beside the graph in any
# case: ONNX Runtime maps it into memory rather than parse and copy it. The session of multilingual-e5-small's
# shape in 8 bits then opens in half the time and 46 MB for 142 (benchmarks/load_and_size.py).
MAPPED_FROM = 2**26


def write_graph(
    checkpoint: Checkpoint, precision: str, folder: Path, file: str = MODEL_FILE, *, single_file: bool = False
) -> str:
    """Writes the graph of `checkpoint` into `folder` and returns its name there.

    Args:
        checkpoint: what to convert.
        precision: "fp32" or "fp16". In fp16 the weights, products and LayerNorm inputs are float16; LayerNorm
            accumulates in float32 by the operator's definition, pooling and normalisation are float32.
        folder: of the artifact.
        file: the graph's name in it.
        single_file: as in `save`.

    Raises:
        CheckpointError: the weights cannot be loaded.
        TargetError: one file cannot hold them.
    """
    import torch

    from ringkas.runtimes.reference import load_reference

    dtype = {"fp32": torch.float32, "fp16": torch.float16}[precision]
    model = trace(checkpoint, load_reference(checkpoint, dtype=dtype, attention="eager"))
    save(model, folder, file, single_file=single_file)
    describe_graphs(folder)
    return file


def save(model: onnx_ir.Model, folder: Path, file: str = MODEL_FILE, *, single_file: bool = False) -> str:
    """Writes `model`, checked and without the exporter's notes, as `file` in `folder`; returns `file`.

    With `single_file` nothing lies beside it, for clients that open a graph from bytes.

    Raises:
        TargetError: one file cannot hold the weights.
    """
    import onnx
    import onnx_ir

    _strip(model)
    place = folder / file
    place.parent.mkdir(parents=True, exist_ok=True)
    weighs = weight_bytes(model)
    if single_file and weighs >= EXTERNAL_DATA_FROM:
        raise TargetError(
            f"the weights of {weighs / 1e9:.1f} GB do not fit a single file",
            why="protobuf messages end at 2 GiB",
            fix="Choose fewer bits, or leave --single-file out",
        )
    beside = f"{place.name}{DATA_SUFFIX}"
    if weighs >= EXTERNAL_DATA_FROM:
        onnx_ir.save(model, place, external_data=beside)
    elif not single_file and max(_tensor_bytes(model), default=0) >= MAPPED_FROM:
        onnx_ir.save(model, place, external_data=beside, size_threshold_bytes=MAPPED_FROM)
    else:
        onnx_ir.save(model, place)
    onnx.checker.check_model(str(place))
    return file


def accept_token_types(graph: Path) -> None:
    """Gives a graph an input `token_type_ids`, which need not be given and changes nothing.

    For clients that feed it to every model. It has a default, an initializer, so that others can go without:
    ONNX Runtime does not list such an input among those that must be fed.
    """
    import onnx

    model = onnx.load(graph, load_external_data=False)
    stated = next(one for one in model.graph.input if one.name == INPUTS[0])
    model.graph.input.add().CopyFrom(stated)
    model.graph.input[-1].name = UNUSED_INPUT
    default = onnx.helper.make_tensor(UNUSED_INPUT, onnx.TensorProto.INT64, [1, 1], [0])
    model.graph.initializer.append(default)
    onnx.save(model, graph)
    onnx.checker.check_model(str(graph))


def trace(checkpoint: Checkpoint, reference: Reference, opset: int = OPSET) -> onnx_ir.Model:
    """The graph of a reference of `checkpoint`, whose layers may be replaced by quantised ones."""
    from ringkas.export.to_onnx.attention import looked_up_bias
    from ringkas.export.to_onnx.repetition import trace_repeated

    with looked_up_bias(reference, checkpoint.family):
        model = trace_repeated(reference, lambda: _exported(checkpoint, reference, opset))
    _simplify(model)
    return model


def _exported(checkpoint: Checkpoint, reference: Reference, opset: int) -> onnx_ir.Model:
    """What PyTorch's exporter makes of the reference."""
    import torch

    # Two rows of which one is padded, so that neither size is taken for a constant.
    mask = torch.ones((2, 16), dtype=torch.int64)
    mask[1, 9:] = 0
    ids = torch.where(mask == 1, 5, checkpoint.spec.pad_id)
    batch = torch.export.Dim("batch")
    sequence = torch.export.Dim("sequence", max=checkpoint.family.max_positions(checkpoint.config))
    shape = {0: batch, 1: sequence}
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            reference,
            (ids, mask),
            input_names=list(INPUTS),
            output_names=[TOKEN_OUTPUT, SENTENCE_OUTPUT],
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
            opset_version=opset,
            dynamo=True,
            optimize=False,
            verbose=False,
        )
    assert program is not None  # dynamo=True always returns one
    model: onnx_ir.Model = program.model
    return model


def _simplify(model: onnx_ir.Model) -> None:
    """What the exporter's own optimiser does to an encoder, without its rules for convolutions and the like.

    To try all of them takes as long as the rest of a trace.
    """
    from onnx_ir.passes import common
    from onnxscript.optimizer import fold_constants_ir
    from onnxscript.rewriter import rewrite
    from onnxscript.rewriter.rules import common as rules

    simpler = [
        rules.add_0_rule,
        rules.sub_0_rule,
        rules.mul_by_1_rule,
        rules.div_by_1_rule,
        rules.collapse_slice_rule,
        rules.materialize_reshape_shape_rule,
        rules.no_op_cast_rule,
        rules.no_op_expand_rule,
        rules.reshape_reshape_rule,
        rules.squeeze_reshape_1d_rule,
        rules.transpose_transpose_rule,
        rules.unsqueeze_unsqueeze_rule,
    ]
    for _ in range(2):  # what one pass folds gives the other work
        fold_constants_ir(model)
        rewrite(model, simpler)
    common.IdentityEliminationPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    share_equal_nodes(model)


def _strip(model: onnx_ir.Model) -> None:
    """Drops what the exporter notes for debugging: stack traces with paths of the machine that built it."""
    model.metadata_props.clear()
    model.doc_string = None
    model.producer_name, model.producer_version = "ringkas", None
    model.graph.name = "encoder"
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()
    model.graph.metadata_props.clear()


def weight_bytes(model: onnx_ir.Model) -> int:
    """The bytes of all tensors that the graph holds."""
    return sum(_tensor_bytes(model))


def _tensor_bytes(model: onnx_ir.Model) -> Iterator[int]:
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            yield value.const_value.nbytes


_one_at_a_time = Lock()


@contextmanager
def _quietly() -> Iterator[None]:
    """The exporter warns of packages that do not matter here; errors still raise.

    Which warnings are shown is one setting for the process: two traces at once would put back each other's.
    """
    with _one_at_a_time:
        yield from _without_warnings()


def _without_warnings() -> Iterator[None]:
    loggers: list[Any] = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
