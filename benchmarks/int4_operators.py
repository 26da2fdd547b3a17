"""What onnx-int4's portable operators cost beside the ones that only newer runtimes have.

    python benchmarks/int4_operators.py ARTIFACT [--rounds 7] [--threads 2] [--json FILE]

ARTIFACT is an onnx-int4 one. Its graph is rewritten with Cast from INT4 and GatherBlockQuantized of 4 bits,
which hold the same numbers: both must give the same vectors to the last bit. Each is then opened and run in a
process of its own, the rounds interleaved: seconds to open it, and milliseconds a text by tokens.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

from ringkas import open_artifact
from ringkas.export.to_onnx.folding import add_initializer
from ringkas.runtimes.engines.onnxruntime_engine import open_session
from ringkas.runtimes.parity.probe import load_probe

LENGTHS = (5, 9, 26, 163)
_SECONDS, _WARM_UP = 1.0, 3
_FLOAT, _HALF, _INT8 = 1, 10, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.artifact, options.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report = compare(options.artifact, Path(folder), options)
    print(json.dumps(report, indent=1))
    if options.json:
        write_result(options.json, report)


def compare(path: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Sizes, whether the vectors are equal, and the portable graph's times over the other's."""
    graphs = {"portable": open_artifact(path).model_path, "contributed": folder / "model.onnx"}
    rewrite(graphs["portable"], graphs["contributed"])
    rows = [np.array([row], dtype=np.int64) for row in load_probe(path).token_ids[:40]]
    vocabulary = json.loads((path / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    rows = [row % vocabulary for row in rows]  # of a cut vocabulary any ids of its own will do
    vectors = {name: encode(file, rows) for name, file in graphs.items()}
    if not np.array_equal(vectors["portable"], vectors["contributed"]):
        raise SystemExit("the two graphs give different vectors")
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in graphs}
    for number in range(options.rounds):
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
        for name in sorted(graphs, reverse=bool(number % 2)):
            rounds[name].append(run(graphs[name], options.threads))
    keys = list(rounds["portable"][0])
    return {
        "threads": options.threads,
        "rounds": options.rounds,
        "bytes": {name: weight(file) for name, file in graphs.items()},
        "vectors": "equal to the last bit",
        "contributed": {key: median([one[key] for one in rounds["contributed"]]) for key in keys},
        "portable, as a share of it": {
            key: median([a[key] / b[key] for a, b in zip(*rounds.values(), strict=True)]) for key in keys
        },
    }


def rewrite(source: Path, place: Path) -> None:
    """The same numbers in the operators of newer runtimes."""
    import onnx_ir
    from onnx_ir.passes import common

    model = onnx_ir.load(source)
    _rewrite_layers(model)
    _rewrite_table(model)
    common.RemoveUnusedNodesPass()(model)
    onnx_ir.save(model, place)


def _rewrite_layers(model: Any) -> None:
    import onnx_ir

    graph = model.graph
    for node in [one for one in graph if one.op_type == "DequantizeLinear"]:
        levels, factors = node.inputs[0].const_value, node.inputs[1].producer().inputs[0].const_value
        name, block = node.inputs[0].name, node.attributes["block_size"].as_int()
        inputs, outputs = levels.shape
        cubes = levels.numpy().reshape(inputs // block, block, outputs)
        kept = add_initializer(graph, onnx_ir.Tensor(cubes, dtype=onnx_ir.DataType.INT4, name=f"{name}.cube"))
        factor = add_initializer(graph, onnx_ir.tensor(factors.numpy()[:, None, :], name=f"{name}.factor"))
        shape = add_initializer(graph, onnx_ir.tensor(np.array([inputs, outputs]), name=f"{name}.shape"))
        wide = onnx_ir.node("Cast", [kept], {"to": _FLOAT})
        scale = onnx_ir.node("Cast", [factor], {"to": _FLOAT})
        product = onnx_ir.node("Mul", [wide.outputs[0], scale.outputs[0]])
        flat = onnx_ir.node("Reshape", [product.outputs[0], shape])
        cast = onnx_ir.node("Cast", [flat.outputs[0]], {"to": _INT8})
        made = (wide, scale, product, flat, cast)
        _name(made, name)
        graph.insert_before(graph[0], made)
        (flatten,) = [use.node for use in node.outputs[0].uses()]
        (quantize,) = [use.node for use in flatten.outputs[0].uses()]
        quantize.outputs[0].replace_all_uses_with(cast.outputs[0])


def _rewrite_table(model: Any) -> None:
    import ml_dtypes
    import onnx_ir

    graph = model.graph
    for node in [one for one in graph if one.op_type == "BitShift"]:
        lookup = node.inputs[0].producer()
        pairs, ids = lookup.inputs[0].const_value.numpy(), lookup.inputs[1]
        levels = np.concatenate([pairs & 15, pairs >> 4], axis=2).astype(np.int8) - 8
        product = _only(_only(_only(_only(node))))  # Concat, Cast, Sub, Mul
        scale = next(one for one in product.inputs if one.producer().op_type == "Cast").producer()
        scales = scale.inputs[0].producer().inputs[0].const_value.numpy()[:, :, 0]
        name = lookup.inputs[0].name
        table = levels.reshape(len(levels), -1).astype(ml_dtypes.int4)
        kept = add_initializer(graph, onnx_ir.Tensor(table, dtype=onnx_ir.DataType.INT4, name=f"{name}.int4"))
        factor = add_initializer(graph, onnx_ir.tensor(scales, name=f"{name}.scales"))
        block = levels.shape[2]
        found = onnx_ir.node(
            "GatherBlockQuantized", [kept, ids, factor],
            {"gather_axis": 0, "quantize_axis": 1, "block_size": block, "bits": 4}, domain="com.microsoft",
        )  # fmt: skip
        _name([found], name)
        graph.insert_before(lookup, [found])
        half = _only(_only(product))  # Reshape, Cast to float16
        half.outputs[0].replace_all_uses_with(found.outputs[0])


def _only(node: Any) -> Any:
    (user,) = [use.node for use in node.outputs[0].uses()]
    return user


def _name(nodes: Any, name: str) -> None:
    for index, node in enumerate(nodes):
        node.outputs[0].name = f"{name}.before.{index}"


def encode(graph: Path, rows: list[Any]) -> Any:
    session = open_session(graph, 1)
    return np.vstack([session.run(["sentence_embedding"], feed(row))[0] for row in rows])


def feed(ids: Any) -> dict[str, Any]:
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def run(graph: Path, threads: int) -> dict[str, float]:
    command = [sys.executable, __file__, str(graph), "--measure", "--threads", str(threads)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(graph: Path, threads: int) -> dict[str, float]:
    """Seconds to open the graph; milliseconds a text for each length, each the median of a second's runs."""
    started = time.perf_counter()
    session = open_session(graph, threads)
    found = {"seconds to open": time.perf_counter() - started}
    for length in LENGTHS:
        given = feed(np.arange(5, 5 + length, dtype=np.int64)[None])
        taken: list[float] = []
        for number in range(10_000):
            started = time.perf_counter()
            session.run(["sentence_embedding"], given)
            if number >= _WARM_UP:
                taken.append(1000 * (time.perf_counter() - started))
            if sum(taken) > 1000 * _SECONDS:
                break
        found[f"ms at {length} tokens"] = float(np.median(taken))
    return found


def weight(graph: Path) -> int:
    return sum(file.stat().st_size for file in graph.parent.glob(f"{graph.name}*"))


def median(values: list[float]) -> float:
    return round(float(np.median(values)), 4)


if __name__ == "__main__":
    main()
