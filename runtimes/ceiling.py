"""The machine's own ceiling: how fast ONNX Runtime multiplies large matrices here, in fp32 and in int8.

An encoder is mostly matrix products, so its floor is its operations over this peak.
"""

from __future__ import annotations

import os
import time
from typing import Any

import msgspec
import numpy as np

from ringkas.errors import require

# Large enough that the product runs at the peak, small enough to stay in the caches.
_ROWS, _INNER, _COLUMNS = 512, 1024, 1024
_OPSET = 20


class Ceiling(msgspec.Struct, frozen=True):
    """Best of several runs, in billions of operations a second (a multiply and an add are two)."""

    fp32_gops: float
    int8_gops: float
    threads: int


def measure_ceiling(threads: int | None = None, seconds: float = 1.0) -> Ceiling:
    """Times MatMul and MatMulInteger through ONNX Runtime.

    Raises:
        MissingExtra: onnx, which makes the two graphs, or onnxruntime is not installed.
    """
    require("onnx", "onnxruntime")
    require("export", "onnx")
    threads = threads or os.cpu_count() or 1
    rng = np.random.default_rng(0)
    fp32 = {
        "a": rng.standard_normal((_ROWS, _INNER), dtype=np.float32),
        "b": rng.standard_normal((_INNER, _COLUMNS), dtype=np.float32),
    }
    int8 = {
        "a": rng.integers(0, 255, (_ROWS, _INNER), dtype=np.uint8),
        "b": rng.integers(-64, 64, (_INNER, _COLUMNS), dtype=np.int8),
    }
    return Ceiling(
        _peak("MatMul", fp32, threads, seconds), _peak("MatMulInteger", int8, threads, seconds), threads
    )


def linear_operations(hidden: int, intermediate: int, layers: int, tokens: int) -> float:
    """Operations of an encoder's linear layers and attention for one text of `tokens` tokens."""
    linear = 4 * hidden * hidden + 2 * hidden * intermediate
    attention = 2 * tokens * hidden
    return 2.0 * layers * tokens * (linear + attention)


def _peak(operator: str, matrices: dict[str, Any], threads: int, seconds: float) -> float:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    output = TensorProto.FLOAT if operator == "MatMul" else TensorProto.INT32
    a = matrices["a"]
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "ceiling",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)],
        [helper.make_tensor_value_info("c", output, (_ROWS, _COLUMNS))],
        [numpy_helper.from_array(matrices["b"], "b")],  # a constant is packed once, as a weight is
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        started = time.perf_counter()
        session.run(["c"], {"a": a})
        best = min(best, time.perf_counter() - started)
    return 2 * _ROWS * _INNER * _COLUMNS / best / 1e9
