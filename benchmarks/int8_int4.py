"""onnx-int8 and onnx-int4 beside what the field offers: speed, fidelity, size.

    python benchmarks/int8_int4.py SENTENCES [--rounds 9] [--json benchmarks/results/int8_int4.json]
    python benchmarks/int8_int4.py SENTENCES --only-fidelity

Makes every form from the demo checkpoint, compares its vectors with the reference's on the lines of the file
SENTENCES, and times them on token ids, in rounds that go round. Each measurement has a process of its own and
ratios are medians over the rounds of each round's own ratio: a machine that is shared changes its speed by a
third within a minute, and one process is faster than the next by as much.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

LENGTHS = (9, 26, 163)
# Token counts of the 64 texts that are encoded in one go, sorted, 8 at a time: as sentences are.
MANY = np.sort(np.random.default_rng(1).integers(12, 48, 64))[::-1]
BATCH = 8
THREADS = 2
BASE = "onnxruntime fp32"
TORCH = "sentence-transformers"
CALLS = {"9 tokens": 300, "26 tokens": 150, "163 tokens": 40, "64 texts": 4}
_WARM_UP = 0.3  # seconds of calls that are not counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sentences", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only-fidelity", action="store_true", help="our own forms alone, and no times")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.only_fidelity:
        with tempfile.TemporaryDirectory() as folder:
            graphs = our_graphs(Path(folder), ("onnx-int8", "onnx-int4"))
            found = compare(graphs, options.sentences.read_text("utf-8").splitlines())
            found = {name: one | {"graph_bytes": graphs[name].stat().st_size} for name, one in found.items()}
        report = {"machine": machine(), "engines": found}
        print(json.dumps(report, indent=1))
        if options.json:
            options.json.write_text(json.dumps(report, indent=1) + "\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        graphs = make_graphs(Path(folder))
        fidelity = compare(graphs, options.sentences.read_text("utf-8").splitlines())
        times = measure({**graphs, TORCH: None}, options.rounds)
        sizes = {name: graph.stat().st_size for name, graph in graphs.items()}
    base = times[BASE]
    result = {
        name: {
            "p50_ms": {case: round(1e3 * float(np.median(values)), 3) for case, values in found.items()},
            f"ratio to {BASE}": {
                case: round(float(np.median(values / base[case])), 3) for case, values in found.items()
            },
            **fidelity.get(name, {}),
            **({"graph_bytes": sizes[name]} if name in sizes else {}),
        }
        for name, found in times.items()
    }
    report = {"machine": machine(), "rounds": options.rounds, "threads": THREADS, "engines": result}
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_result(options.json, report)


def machine() -> dict[str, Any]:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return {
        "machine": platform.machine(),
        "vnni": "vnni" in flags,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        **{name: metadata.version(name) for name in ("onnxruntime", "torch", "sentence-transformers")},
    }


def make_graphs(folder: Path) -> dict[str, Path]:
    """Each form's graph by name."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    logging.disable(logging.WARNING)
    ours = our_graphs(folder, ("onnx-fp32", "onnx-int8", "onnx-int4"))
    base, int8, int4 = ours.values()
    dynamic = folder / "dynamic.onnx"
    quantize_dynamic(base, dynamic, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)
    graphs = {BASE: base, "ringkas onnx-int8": int8, "ringkas onnx-int4": int4, "quantize_dynamic": dynamic}
    import onnx

    for bits in (8, 4):
        quantizer = MatMulNBitsQuantizer(
            onnx.load(base), bits=bits, block_size=32, is_symmetric=True, accuracy_level=4
        )
        quantizer.process()
        file = folder / f"nbits{bits}.onnx"
        quantizer.model.save_model_to_file(str(file))
        graphs[f"MatMulNBits {bits} bits"] = file
    return graphs


def our_graphs(folder: Path, targets: Sequence[str]) -> dict[str, Path]:
    """The graphs of the demo checkpoint's targets, by name."""
    from ringkas import build_all, open_checkpoint

    build_all(open_checkpoint("demo"), targets, folder)
    return {f"ringkas {target}": folder / target / "onnx" / "model.onnx" for target in targets}


def compare(graphs: dict[str, Path], sentences: list[str]) -> dict[str, dict[str, Any]]:
    """Cosine with the PyTorch reference, and agreement of ranks."""
    from ringkas import load_reference_encoder
    from ringkas.runtimes.engines.onnxruntime_engine import open_session
    from ringkas.runtimes.parity.judge import cosine, rank_agreement

    with load_reference_encoder("demo") as encoder:
        token_ids = encoder.tokenizer.encode(sentences)
        expected = encoder.encode_ids(token_ids)
    found = {}
    for name, graph in graphs.items():
        session = open_session(graph, THREADS)
        vectors = np.vstack([run(session, np.array([row])) for row in token_ids])
        cosines = cosine(expected, vectors)
        overlap, spearman = rank_agreement(expected, vectors)
        found[name] = {
            "cosine_min": round(float(cosines.min()), 5),
            "cosine_mean": round(float(cosines.mean()), 5),
            "top10_overlap": round(overlap, 4),
            "spearman": round(spearman, 5),
            "sentences": len(sentences),
        }
    return found


def measure(graphs: dict[str, Path | None], rounds: int) -> dict[str, dict[str, Any]]:
    """The median seconds of a call in each round, by engine and case."""
    medians: dict[str, dict[str, list[float]]] = {name: {case: [] for case in CALLS} for name in graphs}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for name, graph in graphs.items():
            command = [sys.executable, __file__, "--time", str(graph or TORCH)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            for case, taken in json.loads(done.stdout).items():
                medians[name][case].append(taken)
    return {
        name: {case: np.array(values) for case, values in cases.items()} for name, cases in medians.items()
    }


def run(session: Any, ids: Any) -> Any:
    return session.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]


def time_engine(name: str) -> dict[str, float]:
    """The median seconds of a call of each case."""
    encode = _torch() if name == TORCH else _onnx(name)
    rng = np.random.default_rng(0)
    cases = {f"{length} tokens": [rng.integers(1000, 20000, (1, length))] for length in LENGTHS}
    widths = [int(MANY[start]) for start in range(0, len(MANY), BATCH)]
    cases["64 texts"] = [rng.integers(1000, 20000, (BATCH, width)) for width in widths]
    until = time.perf_counter() + _WARM_UP
    while time.perf_counter() < until:
        seconds(encode, cases["26 tokens"], 1)
    return {case: seconds(encode, cases[case], number) for case, number in CALLS.items()}


def seconds(encode: Callable[[Any], object], batches: list[Any], calls: int) -> float:
    """The median of `calls` calls, after one that is not counted."""
    taken = []
    for _ in range(calls + 1):
        started = time.perf_counter()
        for ids in batches:
            encode(ids)
        taken.append(time.perf_counter() - started)
    return float(np.median(taken[1:]))


def _onnx(graph: str) -> Any:
    from ringkas.runtimes.engines.onnxruntime_engine import open_session

    session = open_session(Path(graph), THREADS)
    return lambda ids: run(session, ids)


def _torch() -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    from ringkas import open_checkpoint

    torch.set_num_threads(THREADS)
    model = SentenceTransformer(str(open_checkpoint("demo").path), device="cpu").eval()

    def encode(ids: Any) -> Any:
        with torch.inference_mode():
            tensor = torch.from_numpy(ids)
            return model({"input_ids": tensor, "attention_mask": torch.ones_like(tensor)})

    return encode


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.argv[1:2] == ["--time"]:
        print(json.dumps(time_engine(sys.argv[2])))
    else:
        main()
