"""8-bit products beside float32's: the graphs are what they are said to be, and the verdict follows."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ringkas.runtimes.measure.products import INPUTS, OUTPUTS, Products, measure_products

SCALE, LEVEL, WEIGHT = 0.02, 3, 0.05


def graph(name: str) -> onnx.ModelProto:
    """A product of x (tokens, inputs) with a constant matrix that the graph itself makes: it is tiny."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [INPUTS, OUTPUTS])
    scalars = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [SCALE]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [128]),
        helper.make_tensor("weight_scale", TensorProto.FLOAT, [], [WEIGHT / LEVEL]),
    ]

    def matrix(kind: int, value: float) -> Any:
        filled = helper.make_tensor("value", kind, [1], [value])
        return helper.make_node("ConstantOfShape", ["shape"], ["w"], value=filled)

    if name == "float32":
        nodes = [matrix(TensorProto.FLOAT, WEIGHT), helper.make_node("MatMul", ["x", "w"], ["y"])]
    else:
        product = ["levels", "w", "scale", "weight_scale", "zero"]
        nodes = [
            matrix(TensorProto.INT8, LEVEL),
            helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["levels"]),
            helper.make_node("MatMulIntegerToFloat", product, ["y"], domain="com.microsoft"),
        ]
    real = TensorProto.FLOAT
    made = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", real, ["tokens", INPUTS])],
        [helper.make_tensor_value_info("y", real, ["tokens", OUTPUTS])],
        [shape] if name == "float32" else [shape, *scalars],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=9, producer_name="ringkas")


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_the_graphs_are_these(name: str) -> None:
    stored = files("ringkas") / "data" / "products" / f"{name}.onnx"
    assert stored.read_bytes() == graph(name).SerializeToString(deterministic=True)


def test_both_graphs_compute_the_same_product() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    # Multiples of the scale, so that 8 bits hold them as they are.
    x = (np.random.default_rng(0).integers(-100, 100, (5, INPUTS)) * SCALE).astype(np.float32)
    exact = x.sum(1, keepdims=True) * WEIGHT
    for name in ("float32", "int8"):
        session = onnxruntime.InferenceSession(graph(name).SerializeToString())
        (found,) = session.run(None, {"x": x})
        assert found.shape == (5, OUTPUTS)
        np.testing.assert_allclose(found, np.broadcast_to(exact, found.shape), atol=1e-3)


@pytest.mark.parametrize(
    ("short", "long", "words"),
    [
        (0.3, 0.4, "are faster here"),
        (0.73, 0.95, "on short texts only"),
        (0.9, 0.5, "on long texts only"),
        (0.97, 1.2, "and no time"),
    ],
)
def test_the_verdict_follows_the_shares(short: float, long: float, words: str) -> None:
    assert Products(short, long).verdict().endswith(words)


def test_a_measurement_is_a_measurement() -> None:
    pytest.importorskip("onnxruntime")
    found = measure_products(threads=1)
    assert 0.02 < found.short < 20
    assert 0.02 < found.long < 20


def write() -> None:
    """Makes the files anew: `python tests/runtimes/measure/test_products.py`."""
    for name in ("float32", "int8"):
        place = Path(__file__).parents[3] / "src" / "ringkas" / "data" / "products" / f"{name}.onnx"
        place.write_bytes(graph(name).SerializeToString(deterministic=True))


if __name__ == "__main__":
    write()
