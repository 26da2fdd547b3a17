"""The graphs that Optimum's users get from a checkpoint: make_onnx.py CHECKPOINT FOLDER.

Runs in the environment `optimum`. Writes onnx/model.onnx as Optimum exports it, and what people make of it:
- model_quantized.onnx by quantize_dynamic with its own defaults (8-bit weights, a scale a tensor), as
  transformers.js' script does;
- model_per_channel.onnx by quantize_dynamic with the settings that keep the most (a scale a channel, 7-bit
  weights, so that no kernel saturates);
- model_qint8.onnx by Optimum with the configuration that it names after this CPU, as sentence-transformers'
  export_dynamic_quantized_onnx_model does.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from onnxruntime.quantization import QuantType, quantize_dynamic
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig

_SMALL = 50_000_000  # bytes: everything of a checkpoint but its weights


def main() -> None:
    checkpoint, out = Path(sys.argv[1]), Path(sys.argv[2])
    for file in checkpoint.rglob("*"):
        if file.is_file() and file.suffix in (".json", ".txt") and file.stat().st_size < _SMALL:
            place = out / file.relative_to(checkpoint)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    limit_length(out)
    ORTModelForFeatureExtraction.from_pretrained(checkpoint, export=True).save_pretrained(out / "export")
    (out / "onnx").mkdir()
    graph = (out / "export" / "model.onnx").rename(out / "onnx" / "model.onnx")
    shutil.rmtree(out / "export")
    quantize_dynamic(graph, graph.with_name("model_quantized.onnx"), weight_type=QuantType.QInt8)
    quantize_dynamic(
        graph,
        graph.with_name("model_per_channel.onnx"),
        weight_type=QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )
    quantize_as_sentence_transformers(graph)


def quantize_as_sentence_transformers(graph: Path) -> None:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [name for name in ("avx512_vnni", "avx2") if name in flags] or ["arm64"]
    config = getattr(AutoQuantizationConfig, names[0])(is_static=False)
    work = graph.parent / "work"
    shutil.copyfile(graph.parents[1] / "config.json", graph.parent / "config.json")
    quantizer = ORTQuantizer.from_pretrained(graph.parent, file_name=graph.name)
    quantizer.quantize(config, work, file_suffix="qint8")
    (work / "model_qint8.onnx").rename(graph.parent / "model_qint8.onnx")
    shutil.rmtree(work)
    (graph.parent / "config.json").unlink()


def limit_length(folder: Path) -> None:
    """Every tool truncates where sentence-transformers does, and not all of them read its file."""
    limit = json.loads((folder / "sentence_bert_config.json").read_text("utf-8"))["max_seq_length"]
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text("utf-8")) | {"model_max_length": limit}
    file.write_text(json.dumps(config, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
