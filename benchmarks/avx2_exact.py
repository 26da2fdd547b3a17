"""No product saturates on a CPU with AVX2 and no VNNI: proved by emulating one.

    python benchmarks/avx2_exact.py ARTIFACT... [--json benchmarks/results/avx2_exact.json]

There, ONNX Runtime multiplies unsigned by signed bytes with vpmaddubsw, which adds two products in 16 bits
and clips. Each artifact's own weights are multiplied with the activations that reach furthest, under
`qemu-x86_64 -cpu Haswell` (Debian: qemu-user) and natively, and compared with 64-bit sums. The twin, weights
of full range, must come out wrong under emulation: that shows which kernel ran. Emulated time means nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

CPU = "Haswell"
TWIN = "twin: weights of full range"
PRODUCTS = ("MatMulIntegerToFloat", "QAttention")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifacts", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        raise SystemExit("qemu-x86_64 is not installed. On Debian: apt-get install qemu-user")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.npz"
        np.savez(file, **weights_of(options.artifacts))
        check = [sys.executable, __file__, "--check", str(file)]
        report = {
            "onnxruntime": metadata.version("onnxruntime"),
            "emulator": subprocess.run([emulator, "--version"], capture_output=True, text=True, check=True)
            .stdout.splitlines()[0],
            CPU: run([emulator, "-cpu", CPU, *check]),
            "native": run(check),
        }  # fmt: skip
    print(json.dumps(report, indent=1))
    if options.json:
        write_result(options.json, report)
    wrong = [name for name, found in report[CPU].items() if found["wrong"] and name != TWIN]
    if wrong or not report[CPU][TWIN]["wrong"]:
        raise SystemExit(f"saturated: {wrong}" if wrong else "the twin did not saturate: nothing is proved")


def run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, check=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def weights_of(artifacts: list[Path]) -> dict[str, Any]:
    """The (in, out) int8 weights of every fifth product, by artifact and layer; and the twin's."""
    import onnx
    from onnx import numpy_helper

    found = {}
    for path in artifacts:
        graph = onnx.load(path / "onnx" / "model.onnx").graph
        tensors = {one.name: one for one in graph.initializer}
        joined = {node.output[0]: list(node.input) for node in graph.node if node.op_type == "Concat"}
        used = [node.input[1] for node in graph.node if node.op_type in PRODUCTS]
        names = [part for name in used for part in joined.get(name, [name])]
        for name in names[::5]:
            if name in tensors:
                weight = numpy_helper.to_array(tensors[name])
            else:  # 4 bits: levels times multipliers
                bare = name.removesuffix(".expanded.3")
                levels = numpy_helper.to_array(tensors[f"{bare}.levels"]).astype(np.int8)
                multipliers = numpy_helper.to_array(tensors[f"{bare}.multipliers"])
                weight = levels * multipliers.repeat(len(levels) // len(multipliers), axis=0)
            found[f"{path.name} {name}"] = weight.astype(np.int8)
    found[TWIN] = np.full((64, 16), 127, dtype=np.int8)
    return found


def check(file: Path) -> dict[str, Any]:
    """For each weight: how many sums were compared, and how many were wrong."""
    found = {}
    with np.load(file) as weights:
        for name in weights.files:
            weight = weights[name]
            # All at the top; then only those that an output's positive, or negative, weights see.
            some = weight.T[:24]
            levels = np.vstack([np.full((1, len(weight)), 255), 255 * (some > 0), 255 * (some < 0)])
            exact = levels @ weight.astype(np.int64)
            product = multiply(levels.astype(np.uint8), weight)
            found[name] = {
                "compared": product.size,
                "wrong": int((product != exact).sum()),
                "largest": int(np.abs(exact).max()),
            }
    return found


def multiply(levels: Any, weight: Any) -> Any:
    """ONNX Runtime's MatMulIntegerToFloat with scales of one: exact below 2**24."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node(
        "MatMulIntegerToFloat", ["levels", "weight", "one", "one"], ["product"], domain="com.microsoft"
    )
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("levels", TensorProto.UINT8, levels.shape)],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.float32(1), "one")],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"levels": levels})[0]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--check"]:
        print(json.dumps(check(Path(sys.argv[2]))))
    else:
        main()
