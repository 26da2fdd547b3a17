"""GGUF of a decoder of 13 billion parameters: memory and time of some layers of its real width.

    python benchmarks/large_gguf.py --layers 2 --json benchmarks/results/gguf/large.json

Llama-2-13B's shape with a vocabulary of 48,512 (SeaLLM's), random weights in 16 bits, as many layers as are
asked for. Two processes of their own convert it tensor by tensor, and run the reference layer by layer over
some texts. What all 40 layers take is told by arithmetic and labelled so: layers are alike, and one is in
memory at a time.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import families
from results_file import write_result

SHAPE = {
    "hidden_size": 5120, "intermediate_size": 13_824, "num_attention_heads": 40, "num_key_value_heads": 40,
    "head_dim": 128, "max_position_embeddings": 4096, "architectures": ["LlamaModel"], "model_type": "llama",
    "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "vocab_size": 48_512,
    "hidden_act": "silu",
}  # fmt: skip
LAYERS = 40
# Of the process since it began: rusage tells at least what the parent had when it forked.
_PEAK = """
def peak_mib():
    lines = open("/proc/self/status").read().splitlines()
    return round(next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")))
"""
_CONVERT = """
import json, sys, time
from pathlib import Path
from ringkas import open_checkpoint
from ringkas.export.to_gguf import write_gguf
checkpoint, began = open_checkpoint(sys.argv[1]), time.perf_counter()
file = Path(sys.argv[2]) / write_gguf(checkpoint, sys.argv[3], Path(sys.argv[2]), streamed=True).model_file
found = {"seconds": time.perf_counter() - began, "file_bytes": file.stat().st_size}
print(json.dumps(found | {"peak_mib": peak_mib()}))
"""
_ENCODE = """
import json, sys, time
from ringkas import open_checkpoint, texts
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.streamed import StreamedEngine
from ringkas.tokens import TextTokenizer
checkpoint = open_checkpoint(sys.argv[1])
some = [text for lines in texts.probe().values() for text in lines][: int(sys.argv[2])]
tokenizer = TextTokenizer(checkpoint.path, checkpoint.spec)
with Encoder(checkpoint.spec, tokenizer, StreamedEngine(checkpoint)) as one:
    tokens, began = sum(map(len, one.tokenizer.encode(some))), time.perf_counter()
    one.encode(some)
found = {"seconds": time.perf_counter() - began, "texts": len(some), "tokens": tokens}
print(json.dumps(found | {"peak_mib": peak_mib()}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--target", default="gguf-q4_0")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = write_model(Path(scratch) / "model", options.layers)
        size = (model / "model.safetensors").stat().st_size
        converted = run(_CONVERT, model, scratch, options.target)
        encoded = run(_ENCODE, model, options.texts)
    layer = layer_weights()
    found: dict[str, Any] = {
        "shape": SHAPE, "weights": "random", "layers": options.layers, "target": options.target,
        "checkpoint_bytes": size, "converting": converted, "reference": encoded,
        "by arithmetic, of all 40 layers": {
            "weights": LAYERS * layer + SHAPE["vocab_size"] * SHAPE["hidden_size"] + SHAPE["hidden_size"],
            "float32_gb": round(4 * (LAYERS * layer + SHAPE["vocab_size"] * SHAPE["hidden_size"]) / 1e9, 1),
            "seconds_of_converting": round(converted["seconds"] * LAYERS / options.layers),
        },
    }  # fmt: skip
    write_result(options.json, found)
    print(json.dumps({"converting": converted, "reference": encoded}))


def run(code: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-c", _PEAK + code, *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def layer_weights() -> int:
    """Of one layer: four square products, three of the feed-forward, two norms."""
    width, inner = int(SHAPE["hidden_size"]), int(SHAPE["intermediate_size"])
    return 4 * width * width + 3 * width * inner + 2 * width


def write_model(folder: Path, layers: int) -> Path:
    """The checkpoint, its tensors written in float16 as they are drawn."""
    import torch
    from safetensors.torch import save_file

    small = {key: value for key, value in SHAPE.items() if key not in ("hidden_size", "intermediate_size")}
    little = {"hidden_size": 80, "intermediate_size": 64, "num_hidden_layers": 1}
    names = families.SENTENCEPIECE_NAMES
    shape = families.Shape("", {**small, **little}, "sentencepiece", names, families.LAST)
    families.write_checkpoint(shape, folder)  # for its tokenizer and settings
    (folder / "config.json").write_text(json.dumps({**SHAPE, "num_hidden_layers": layers}), "utf-8")
    width, inner = int(SHAPE["hidden_size"]), int(SHAPE["intermediate_size"])
    pooling = {"word_embedding_dimension": width, families.LAST: True, families.MEAN: False}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), "utf-8")
    square = {f"self_attn.{name}_proj": (width, width) for name in "qkvo"}
    gated = {"mlp.gate_proj": (inner, width), "mlp.up_proj": (inner, width), "mlp.down_proj": (width, inner)}
    torch.manual_seed(20240607)

    def drawn(*size: int) -> torch.Tensor:
        return (0.02 * torch.randn(size)).half()

    weights = {"embed_tokens.weight": drawn(int(SHAPE["vocab_size"]), width)}
    for number in range(layers):
        for name, (rows, columns) in {**square, **gated}.items():
            weights[f"layers.{number}.{name}.weight"] = drawn(rows, columns)
        for name in ("input_layernorm", "post_attention_layernorm"):
            weights[f"layers.{number}.{name}.weight"] = torch.ones(width, dtype=torch.float16)
    weights["norm.weight"] = torch.ones(width, dtype=torch.float16)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


if __name__ == "__main__":
    main()
