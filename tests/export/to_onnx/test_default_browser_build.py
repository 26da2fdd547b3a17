"""Which operators of 4 bits the build of onnxruntime-web has that a browser loads by default."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from peers.environments import interpreter

from ringkas import build_all, load, open_checkpoint
from ringkas.export.build import BuildOptions
from ringkas.runtimes.parity.judge import cosine

onnx = pytest.importorskip("onnx")
ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "benchmarks" / "clients" / "run_onnxruntime_web.mjs"
LEVELS = np.arange(-8, 8, dtype=np.int8).repeat(16).reshape(16, 16)
IDS = [3, 0, 15]


def graph(kind: str) -> Any:
    """The mean of a 4-bit table's rows, which `kind` expands."""
    import ml_dtypes
    from onnx import TensorProto, helper, numpy_helper

    one = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "sequence"])
    two = helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch", "sequence"])
    out = helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", 16])
    table = numpy_helper.from_array(LEVELS.astype(ml_dtypes.int4), "table")
    scale = numpy_helper.from_array(np.ones((16, 1), dtype=np.float32), "scale")
    axes = numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")
    looked_up = [helper.make_node("Gather", ["floats", "input_ids"], ["rows"])]
    nodes = {
        "Cast": [helper.make_node("Cast", ["table"], ["floats"], to=TensorProto.FLOAT), *looked_up],
        "DequantizeLinear": [
            helper.make_node("DequantizeLinear", ["table", "scale"], ["floats"], axis=1, block_size=16),
            *looked_up,
        ],
        "GatherBlockQuantized": [
            helper.make_node(
                "GatherBlockQuantized", ["table", "input_ids", "scale"], ["rows"],
                domain="com.microsoft", block_size=16, quantize_axis=1, gather_axis=0,
            )
        ],
    }[kind]  # fmt: skip
    nodes.append(helper.make_node("ReduceMean", ["rows", "axes"], ["sentence_embedding"], keepdims=0))
    made = helper.make_graph(nodes, "g", [one, two], [out], [table, scale, axes])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(made, opset_imports=opsets, ir_version=10)


@pytest.mark.clients
@pytest.mark.parametrize(
    ("kind", "runs"), [("DequantizeLinear", True), ("Cast", False), ("GatherBlockQuantized", False)]
)
def test_only_dequantize_linear_is_there(kind: str, runs: bool, tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not here: apt install npm")
    (tmp_path / "model.onnx").write_bytes(graph(kind).SerializeToString())
    request = {"folder": str(tmp_path), "model_file": "model.onnx", "cases": [{"ids": IDS}]}
    (tmp_path / "request.json").write_text(json.dumps(request), "utf-8")
    packages = interpreter("node")
    command = ["node", "--liftoff-only", SCRIPT, packages, "asyncify", tmp_path / "request.json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if runs:
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout.splitlines()[-1])["rows"][0]
        np.testing.assert_allclose(found, LEVELS[IDS].mean(axis=0), rtol=1e-6)
    else:
        assert done.returncode != 0
        assert kind in done.stderr


@pytest.mark.clients
@pytest.mark.parametrize("target", ["onnx-int4", "onnx-int3"])
def test_few_bits_give_their_vectors_there(
    target: str, small_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not here: apt install npm")
    checkpoint = open_checkpoint(small_checkpoint(width=64, max_length=64))
    build_all(checkpoint, [target], tmp_path / "dist", BuildOptions(witness=False))
    with load(tmp_path / "dist" / target, allow_failed=True) as encoder:
        ids = [list(map(int, row)) for row in encoder.tokenizer.encode(["a text", "하나 둘 셋", ""])]
        expected = encoder.encode_ids(ids)
    cases = [{"ids": row} for row in ids]
    folder = tmp_path / "dist" / target
    request = {"folder": str(folder), "model_file": "onnx/model.onnx", "cases": cases}
    (tmp_path / "request.json").write_text(json.dumps(request), "utf-8")
    command = ["node", "--liftoff-only", SCRIPT, interpreter("node"), "asyncify", tmp_path / "request.json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.array(json.loads(done.stdout.splitlines()[-1])["rows"], dtype=np.float32)
    assert cosine(expected, found).min() > 0.995
