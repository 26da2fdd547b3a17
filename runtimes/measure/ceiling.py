"""The machine's own ceilings: how fast ONNX Runtime multiplies large matrices here, and memory is read.

An encoder is mostly matrix products, so its floor is its operations over this peak; for a short text it is
the weights' bytes over the bandwidth. Run as a module this is a worker like any other, so that the ceilings
are measured in the same rounds as what stands under them.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np

from ringkas.extras import load_onnxruntime, require
from ringkas.runtimes.measure.cases import OFFLINE, Case
from ringkas.runtimes.measure.rounds import Timing
from ringkas.runtimes.measure.worker import Subject

# Large enough that the product runs at the peak, small enough to stay in the caches.
_ROWS, _INNER, _COLUMNS = 512, 1024, 1024
_OPERATIONS = 2 * _ROWS * _INNER * _COLUMNS
# Larger than any cache.
_READ_BYTES = 256 * 2**20
_OPSET = 20
_MIN_CALLS = 3

FP32, INT8, MEMORY = "fp32 product", "int8 product", "memory read"
CASES = tuple(Case(name, OFFLINE, ("",), 1) for name in (FP32, INT8, MEMORY))


class Ceiling(msgspec.Struct, frozen=True):
    """Best of all rounds: billions of operations a second (a multiply and an add are two), and of bytes.

    `control_rounds` are the medians of the fp32 product in each round, in milliseconds: how fast the machine
    was while everything else was measured.
    """

    fp32_gops: float
    int8_gops: float
    read_gbytes: float
    threads: int
    control_rounds: tuple[float, ...]


def subject() -> Subject:
    """The worker that measures them.

    Raises:
        MissingExtra: onnx, which makes the two graphs, or onnxruntime is not installed.
    """
    require("onnx", "onnxruntime")
    require("export", "onnx")
    return Subject(
        "the machine's ceilings", command=(sys.executable, "-m", "ringkas.runtimes.measure.ceiling")
    )


def ceiling_of(timings: Sequence[Timing], threads: int | None) -> Ceiling:
    """What the worker's timings of `CASES` come to."""
    fastest = {timing.case: timing.fastest / 1e3 for timing in timings}
    control = next(timing for timing in timings if timing.case == FP32)
    return Ceiling(
        fp32_gops=_OPERATIONS / fastest[FP32] / 1e9,
        int8_gops=_OPERATIONS / fastest[INT8] / 1e9,
        read_gbytes=_READ_BYTES / fastest[MEMORY] / 1e9,
        threads=threads or os.cpu_count() or 1,
        control_rounds=control.rounds,
    )


def main() -> None:
    """Answers a measuring process: each case is one call of its function."""
    threads = json.loads(sys.argv[1])["threads"] or os.cpu_count() or 1
    started = time.perf_counter()
    calls = {
        FP32: _product("MatMul", threads),
        INT8: _product("MatMulInteger", threads),
        MEMORY: _read(threads),
    }
    _answer({"load_s": time.perf_counter() - started})
    for line in sys.stdin:
        request = json.loads(line)
        call = calls[request["case"]]
        if request["do"] == "warm_up":
            call()
            _answer({})
        else:
            _answer({"samples": [{"total": seconds} for seconds in _timed(call, request["seconds"])]})


def _timed(call: Callable[[], object], seconds: float) -> list[float]:
    samples: list[float] = []
    until = time.perf_counter() + seconds
    while len(samples) < _MIN_CALLS or time.perf_counter() < until:
        started = time.perf_counter()
        call()
        samples.append(time.perf_counter() - started)
    return samples


def _product(operator: str, threads: int) -> Callable[[], object]:
    """One product through ONNX Runtime, its right side a constant as a weight is."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    onnxruntime = load_onnxruntime()

    rng = np.random.default_rng(0)
    if operator == "MatMul":
        output = TensorProto.FLOAT
        a: Any = rng.standard_normal((_ROWS, _INNER), dtype=np.float32)
        b: Any = rng.standard_normal((_INNER, _COLUMNS), dtype=np.float32)
    else:
        output = TensorProto.INT32
        a = rng.integers(0, 255, (_ROWS, _INNER), dtype=np.uint8)
        b = rng.integers(-64, 64, (_INNER, _COLUMNS), dtype=np.int8)
    graph = helper.make_graph(
        [helper.make_node(operator, ["a", "b"], ["c"])],
        "ceiling",
        [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)],
        [helper.make_tensor_value_info("c", output, (_ROWS, _COLUMNS))],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=10)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(["c"], {"a": a})


def _read(threads: int) -> Callable[[], object]:
    """Every thread reads its part of a large array."""
    parts = np.array_split(np.ones(_READ_BYTES // 8, dtype=np.int64), threads)
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.max, parts))


def _answer(message: Mapping[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
