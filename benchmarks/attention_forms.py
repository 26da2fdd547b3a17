"""Which form of attention should the CPU graph have: plain products, Attention or MultiHeadAttention?

    python benchmarks/attention_forms.py [--rounds 5] [--json benchmarks/results/attention_forms.json]

Exports the demo checkpoint in each form, checks that all agree with the reference, and times them in rounds
that go round, each in a process of its own.
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

LENGTHS = (9, 26, 163)
_CALLS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        graphs = export_forms(Path(folder))
        samples: dict[str, dict[int, list[float]]] = {name: {n: [] for n in LENGTHS} for name in graphs}
        for number in range(options.rounds):
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
            for name, graph in graphs.items():
                command = [sys.executable, __file__, "--time", str(graph)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for length, milliseconds in zip(LENGTHS, found, strict=True):
                    samples[name][length].append(milliseconds)
    result = {
        name: {f"{length} tokens": round(float(np.median(values)), 3) for length, values in by_length.items()}
        for name, by_length in samples.items()
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        write_result(options.json, {"rounds": options.rounds, "p50_ms": result})


def export_forms(folder: Path) -> dict[str, Path]:
    """Each form's graph, after comparing its vectors with the reference's."""
    import torch
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    from ringkas import open_checkpoint
    from ringkas.export.to_onnx.graph import _quietly
    from ringkas.runtimes.reference import load_reference

    AttentionInterface.register("multi_head", _multi_head_attention)
    AttentionMaskInterface.register(
        "multi_head", lambda attention_mask=None, **_: attention_mask.to(torch.int32)
    )
    checkpoint = open_checkpoint("demo")
    mask = torch.ones((2, 16), dtype=torch.int64)
    mask[1, 9:] = 0
    ids = torch.where(mask == 1, 2023, 0)
    with torch.no_grad():
        expected = load_reference(checkpoint)(ids, mask)[1].numpy()
    shape = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=512)}
    graphs = {}
    for name, attention, opset in (
        ("plain products, opset 20", "eager", 20),
        ("Attention, opset 23", "sdpa", 23),
        ("MultiHeadAttention, com.microsoft", "multi_head", 20),
    ):
        with _quietly(), torch.no_grad():
            program = torch.onnx.export(
                load_reference(checkpoint, attention=attention), (ids, mask), dynamo=True, verbose=False,
                input_names=["input_ids", "attention_mask"], output_names=["hidden", "vectors"],
                dynamic_shapes={"input_ids": shape, "attention_mask": shape}, opset_version=opset,
            )  # fmt: skip
        assert program is not None
        graphs[name] = folder / f"{attention}.onnx"
        program.save(str(graphs[name]))
        found = _session(graphs[name]).run(
            ["vectors"], {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        )
        np.testing.assert_allclose(found[0], expected, atol=1e-6)
    return graphs


def _multi_head_attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any
) -> Any:
    import torch

    batch, heads, length, width = query.shape
    flat = [part.transpose(1, 2).reshape(batch, length, heads * width) for part in (query, key, value)]
    output = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention", [*flat, None, attention_mask],
        attrs={"num_heads": heads, "scale": float(scaling)},
        dtype=query.dtype, shape=(batch, length, heads * width), version=1,
    )  # fmt: skip
    if not torch.compiler.is_exporting():
        raise RuntimeError("this form is for export only")
    return output.reshape(batch, length, heads, width), None


def _session(graph: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


def time_graph(graph: Path) -> list[float]:
    """Median milliseconds of one text at each length."""
    session, rng, medians = _session(graph), np.random.default_rng(0), []
    for length in LENGTHS:
        ids = rng.integers(1000, 20000, (1, length))
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        samples = []
        for _ in range(_CALLS + 10):
            started = time.perf_counter()
            session.run(["vectors"], feed)
            samples.append(time.perf_counter() - started)
        medians.append(1e3 * float(np.median(samples[10:])))
    return medians


if __name__ == "__main__":
    if sys.argv[1:2] == ["--time"]:
        print(json.dumps(time_graph(Path(sys.argv[2]))))
    else:
        main()
