"""Seconds and peak memory of building a TensorRT-RTX plan, in a process of its own; layer counts of the forms
of attention.

    python benchmarks/tensorrt_build.py [--shape e5-small] [--shape xlm-r-large] [--json FILE]

Weights are random: neither time nor size depends on their values. Needs no GPU. The result names the load of
the machine, since that moves the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from results_file import write_result

# Configurations of the published checkpoints, with what each must keep to: seconds, and bytes of memory.
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "e5-small": {
        "model_type": "bert", "hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 1536, "vocab_size": 250037, "max_position_embeddings": 512,
    },
    "xlm-r-large": {
        "model_type": "xlm-roberta", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096, "vocab_size": 250002, "max_position_embeddings": 514, "type_vocab_size": 1,
        "pad_token_id": 1,
    },
}  # fmt: skip
BOUNDS = {"e5-small": (30.0, 2e9), "xlm-r-large": (90.0, 6e9)}
# (attention, opset): the form that is shipped, then the others that were tried.
FORMS = (("eager", 21), ("sdpa", 21), ("sdpa", 23))

_CHILD = """
import sys, time
from pathlib import Path
from results_file import write_result

from ringkas.export.to_tensorrt.plan import PlanJob, PlanOptions, build_plan
from ringkas.progress import QUIET
from ringkas.runtimes.engines.tensorrt_profiles import default_profiles
graph = Path(sys.argv[1])
job = PlanJob(graph, "tensorrt-rtx", default_profiles(512), PlanOptions(), graph.with_suffix(".plan"))
record = build_plan(job, QUIET)
print(record.seconds, record.layers, record.version)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--shape", action="append", choices=list(SHAPES))
    parser.add_argument("--precision", default="fp16")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result: dict[str, Any] = {
        "command": "python " + " ".join(sys.argv),
        "cores": os.cpu_count(),
        "builds": [],
    }
    with TemporaryDirectory(prefix="tensorrt-build-") as folder:
        for shape in options.shape or ["e5-small"]:
            checkpoint = make_checkpoint(shape, Path(folder) / shape)
            result["builds"].append(measure(shape, checkpoint, options.precision, Path(folder)))
            print(json.dumps(result["builds"][-1]), file=sys.stderr)
            if shape == "e5-small":
                result["layers_by_attention"] = layers_by_form(checkpoint, Path(folder))
    print(json.dumps(result, indent=1))
    if options.json:
        write_result(options.json, result)


def make_checkpoint(shape: str, folder: Path) -> Any:
    """A random checkpoint of the shape, with the least of a tokenizer."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import AutoConfig, AutoModel

    from ringkas import open_checkpoint

    own = dict(SHAPES[shape])
    model = AutoModel.from_config(AutoConfig.for_model(own.pop("model_type"), **own))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # as initialised they are all equal, and equal constants become one
                parameter.add_(torch.randn_like(parameter))
    model.save_pretrained(folder)
    Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, "<unk>")).save(
        str(folder / "tokenizer.json")
    )
    special = {"pad_token": "<pad>", "model_max_length": 512, "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special), encoding="utf-8")
    return open_checkpoint(folder)


def measure(shape: str, checkpoint: Any, precision: str, folder: Path) -> dict[str, Any]:
    from ringkas.export.to_tensorrt.graph import write_typed_graph

    started = time.perf_counter()
    name, _ = write_typed_graph(checkpoint, f"tensorrt-rtx-{precision}", folder / f"{shape}-graph")
    graph_seconds = time.perf_counter() - started
    graph = folder / f"{shape}-graph" / name
    load = os.getloadavg()[0]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(graph)], check=True, capture_output=True, text=True
    )
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, layers, version = done.stdout.split()
    plan = graph.with_suffix(".plan").stat().st_size
    assert plan > 0.9 * graph.stat().st_size, "the plan does not hold the weights"
    most_seconds, most_bytes = BOUNDS[shape]
    peak = usage.ru_maxrss * 1024
    return {
        "shape": shape, "precision": precision, "tensorrt_rtx": version, "layers": int(layers),
        "plan_seconds": float(seconds), "peak_bytes": peak, "plan_bytes": plan,
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime - before.ru_utime - before.ru_stime, 1),
        "graph_seconds": round(graph_seconds, 1), "load_average_before": round(load, 2),
        "within_seconds": float(seconds) <= most_seconds, "within_memory": peak <= most_bytes,
    }  # fmt: skip


def layers_by_form(checkpoint: Any, folder: Path) -> dict[str, int]:
    """Layers of the builder's network for each form of attention."""
    import torch

    from ringkas.export.to_onnx import graph as onnx_graph
    from ringkas.export.to_tensorrt.plan import parse
    from ringkas.runtimes.engines.tensorrt_library import LIBRARIES, get_log, load_library
    from ringkas.runtimes.reference import load_reference

    trt = load_library("tensorrt-rtx", building=True)
    found = {}
    for attention, opset in FORMS:
        reference = load_reference(checkpoint, dtype=torch.float16, attention=attention)
        place = folder / f"form-{attention}-{opset}"
        file = place / onnx_graph.save(onnx_graph.trace(checkpoint, reference, opset), place)
        network = parse(trt, trt.Builder(get_log(trt)), file, LIBRARIES["tensorrt-rtx"])
        found[f"{attention}, opset {opset}"] = network.num_layers
    return found


if __name__ == "__main__":
    main()
