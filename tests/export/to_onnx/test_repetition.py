"""Layers that were copied are the layers that would have been traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir
import onnxruntime
import pytest
from torch import nn

from ringkas import open_checkpoint
from ringkas.checkpoint import Checkpoint
from ringkas.export.to_onnx import graph, repetition
from ringkas.export.to_onnx.repetition import trace_repeated
from ringkas.runtimes.reference import Reference, load_reference

Model = Any


@pytest.fixture(scope="module")
def make(
    shapes: Any, tiny_unigram: dict[str, Any], make_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Checkpoint]:
    def checkpoint(family: str, **overrides: Any) -> Checkpoint:
        small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}
        shape = shapes[family](tiny_unigram, **small | overrides)
        folder: Path = make_checkpoint(
            tmp_path_factory.mktemp("model") / family, replace(shape, max_length=64)
        )
        return open_checkpoint(folder)

    return checkpoint


def outputs(model: Model, folder: Path) -> list[Any]:
    graph.save(model, folder, "model.onnx")
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    ids = np.random.default_rng(0).integers(5, 100, (3, 17))
    mask = np.ones_like(ids)
    mask[1, 9:] = 0
    return list(session.run(None, {"input_ids": ids, "attention_mask": mask}))


def counted(reference: Reference, checkpoint: Checkpoint) -> tuple[Model, list[int]]:
    """The graph, and how many layers each trace had."""
    depths: list[int] = []
    stack = repetition._stack(reference.encoder)
    path = "encoder.layer" if stack is None else stack.path

    def trace() -> Model:
        depths.append(len(cast(nn.ModuleList, reference.encoder.get_submodule(path))))
        return graph._exported(checkpoint, reference, graph.OPSET)

    return trace_repeated(reference, trace), depths


# Of ModernBERT's layers the first has no norm of its own, and here every other one is global.
@pytest.mark.parametrize(("family", "layers", "traced"), [("bert", 3, 1), ("modernbert", 4, 3)])
def test_copies_are_what_tracing_gives(
    make: Callable[..., Checkpoint], tmp_path: Path, family: str, layers: int, traced: int
) -> None:
    alternating = {"global_attn_every_n_layers": 2} if family == "modernbert" else {}
    checkpoint = make(family, num_hidden_layers=layers, **alternating)
    reference = load_reference(checkpoint, attention="eager")
    repeated, depths = counted(reference, checkpoint)
    assert depths == [traced]
    whole = graph._exported(checkpoint, reference, graph.OPSET)
    for model in (repeated, whole):
        graph._simplify(model)
    assert [node.op_type for node in repeated.graph] == [node.op_type for node in whole.graph]
    for ours, theirs in zip(outputs(repeated, tmp_path), outputs(whole, tmp_path), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # A copy with another layer's weights is another model.
    last = next(name for name in repeated.graph.initializers if f"{layers - 1}." in name)
    first = last.replace(f"{layers - 1}.", f"{layers - 2}.")
    initializers = repeated.graph.initializers
    initializers[last].const_value = initializers[first].const_value
    assert not np.array_equal(outputs(repeated, tmp_path)[1], outputs(whole, tmp_path)[1])


def test_layers_that_differ_are_traced(make: Callable[..., Checkpoint]) -> None:
    reference = load_reference(make("bert", num_hidden_layers=4), attention="eager")
    layers: Any = reference.encoder.get_submodule("encoder.layer")

    def sources() -> list[int] | None:
        stack = repetition._stack(reference.encoder)
        return None if stack is None else list(stack.sources)

    assert sources() == [0, 0, 0, 0]
    layers[2].attention.self.scaling *= 2
    assert sources() == [0, 0, 2, 0]
    layers[2].attention.self.scaling = layers[1].attention.self.scaling
    layers[3].output.dense = nn.Linear(64, 32, bias=False)
    assert sources() is None  # the last is like no other, so all are traced
    layers[3].output.dense, layers[1].output.dense = layers[2].output.dense, layers[3].output.dense
    assert sources() == [0, 1, 0, 0]


def test_two_values_that_might_be_the_hidden_state_are_not_guessed_between(
    make: Callable[..., Checkpoint],
) -> None:
    checkpoint = make("bert", num_hidden_layers=3)
    reference = load_reference(checkpoint, attention="eager")
    stack = repetition._stack(reference.encoder)
    assert stack is not None
    with repetition._only_first(reference.encoder, stack):
        model = graph._exported(checkpoint, reference, graph.OPSET)
    (nodes,) = repetition._owned(model.graph, stack)
    left = repetition._left(model.graph, nodes)
    entered = repetition._entered(nodes, left)
    assert entered.shape == left.shape
    assert not entered.is_initializer()
    later = next(node for node in nodes if node.op_type == "LayerNormalization")
    other = onnx_ir.Value(name="other", shape=left.shape, type=left.type)
    later.replace_input_with(0, other)
    with pytest.raises(repetition._Unlike):
        repetition._entered(nodes, left)


def test_without_the_exporters_notes_all_is_traced(make: Callable[..., Checkpoint]) -> None:
    checkpoint = make("bert", num_hidden_layers=3)
    reference = load_reference(checkpoint, attention="eager")
    whole: Model = object()
    depths = []

    def trace() -> Model:
        depths.append(len(cast(nn.ModuleList, reference.encoder.get_submodule("encoder.layer"))))
        if len(depths) == 2:
            return whole
        model = graph._exported(checkpoint, reference, graph.OPSET)
        for node in model.graph:
            node.metadata_props.clear()
        return model

    assert trace_repeated(reference, trace) is whole
    assert depths == [1, 3]
