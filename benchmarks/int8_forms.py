"""What onnx-int8's graph could be instead: the forms beside one another, and where the time of one goes.

    python benchmarks/int8_forms.py [MODEL] [--work dist/int8-forms] [--rounds 40]

Each form is the same checkpoint in 8 bits: as `ringkas build` makes it; with ranges that are fixed wherever a
kind of layer allows it; with the feed-forward's inputs by token as well; with attention apart from its three
products; and that without a mask, which no batch with padding could do without, but which lets ONNX Runtime
compute attention in blocks. All are timed in one process, in a random order anew for each call, without
spinning threads; a ratio is the median of each round's own. Results go into
benchmarks/results/int8_forms.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
from msgspec.structs import replace
from results_file import write_result

from ringkas import open_checkpoint
from ringkas.export.to_onnx import folding
from ringkas.export.to_onnx.quantized import write_quantized
from ringkas.family import ATTENTION_OUTPUT, FEED_FORWARD_INPUT, Handling
from ringkas.quantize.for_onnx.schemes import SCHEMES, OnnxScheme

RESULTS = Path(__file__).parent / "results"
BUILT, APART, UNMASKED = "as built", "attention apart", "attention apart, no mask"
_INT8 = SCHEMES["onnx-int8"]
SCHEMES_BY_FORM: Mapping[str, OnnxScheme] = {
    BUILT: _INT8,
    "fixed ranges": replace(_INT8, outliers=0, activations={ATTENTION_OUTPUT: Handling.STATIC}),
    "feed-forward inputs by token": replace(_INT8, activations={FEED_FORWARD_INPUT: Handling.CENTRED_ROW}),
    APART: _INT8,
}
SHAPES = ((1, 8), (1, 32), (1, 128), (1, 256), (1, 500), (16, 64))  # texts, tokens
PROFILED = (1, 256)
_MASK = 4  # among MultiHeadAttention's inputs


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="demo-e5")
    parser.add_argument("--work", type=Path, default=Path("dist/int8-forms"))
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    graphs = make(options.model, options.work)
    sessions = {name: session(graph) for name, graph in graphs.items()}
    random, times = np.random.default_rng(0), {}
    for texts, tokens in SHAPES:
        feed = inputs(texts, tokens)
        taken: dict[str, list[float]] = {name: [] for name in sessions}
        for own in sessions.values():
            own.run(None, feed)
        for _ in range(options.rounds):
            for name in random.permutation(list(sessions)):
                started = time.perf_counter()
                sessions[name].run(None, feed)
                taken[name].append(1e3 * (time.perf_counter() - started))
        label = f"{texts} x {tokens} tokens"
        times[label] = {
            name: {"ms": round(float(np.median(one)), 2), "ratio": ratio(one, taken[BUILT])}
            for name, one in taken.items()
        }
        print(label, times[label], file=sys.stderr, flush=True)
    report = {"model": options.model, "rounds": options.rounds, "times": times}
    report["milliseconds_by_operator"] = {"shape": PROFILED, **operators(graphs[BUILT])}
    write_result(RESULTS / "int8_forms.json", report)
    print(json.dumps(report["milliseconds_by_operator"], indent=1))


def make(model: str, work: Path) -> dict[str, Path]:
    """The graph of each form, made where it is missing."""
    checkpoint, found = open_checkpoint(model), {}
    for name, scheme in SCHEMES_BY_FORM.items():
        folder = work / name.replace(" ", "-")
        found[name] = folder / "onnx" / "model.onnx"
        if not found[name].exists():
            print(f"making: {name}", file=sys.stderr, flush=True)
            folder.mkdir(parents=True, exist_ok=True)
            fuse = (lambda _: None) if name == APART else folding.fuse_attention
            with patch.object(folding, "fuse_attention", fuse):
                write_quantized(checkpoint, scheme, folder)
    found[UNMASKED] = found[APART].with_name("unmasked.onnx")
    graph = onnx.load(found[APART])
    for node in graph.graph.node:
        if node.op_type == "MultiHeadAttention":
            del node.input[_MASK - 1 :]
    onnx.save(graph, found[UNMASKED])
    return found


def session(graph: Path, **options: Any) -> onnxruntime.InferenceSession:
    own = onnxruntime.SessionOptions()
    own.intra_op_num_threads, own.log_severity_level = 2, 3
    own.add_session_config_entry("session.intra_op.allow_spinning", "0")
    for name, value in options.items():
        setattr(own, name, value)
    return onnxruntime.InferenceSession(graph, own, providers=["CPUExecutionProvider"])


def inputs(texts: int, tokens: int) -> dict[str, np.ndarray[Any, Any]]:
    """Ids of ordinary tokens, none of them padding."""
    ids = np.random.default_rng(1).integers(1000, 20_000, (texts, tokens))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def ratio(own: list[float], base: list[float]) -> float:
    return round(float(np.median(np.array(own) / np.array(base))), 3)


def operators(graph: Path) -> dict[str, float]:
    """Milliseconds that each kind of operator takes of one call, the longest first."""
    with tempfile.TemporaryDirectory() as folder:
        own = session(graph, enable_profiling=True, profile_file_prefix=f"{folder}/profile")
        for _ in range(20):
            own.run(None, inputs(*PROFILED))
        events = json.loads(Path(own.end_profiling()).read_text("utf-8"))
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            taken[event["args"]["op_name"], event["name"]].append(event["dur"] / 1000)
    total: dict[str, float] = defaultdict(float)
    for (kind, _), one in taken.items():
        total[kind] += float(np.median(one))
    return {kind: round(total[kind], 2) for kind in sorted(total, key=lambda kind: -total[kind])[:12]}


if __name__ == "__main__":
    main()
