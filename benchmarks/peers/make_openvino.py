"""OpenVINO in 8 bits as sentence-transformers documents it: make_openvino.py CHECKPOINT FOLDER CALIBRATION.

Runs in the environment `optimum-intel`. CALIBRATION is a folder with train.jsonl of {"text": ...}: the
default, GLUE's sst2, needs a hub, and is English alone.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from optimum.intel import OVQuantizationConfig
from sentence_transformers import SentenceTransformer, export_static_quantized_openvino_model

_SMALL = 50_000_000  # bytes: everything of a checkpoint but its weights


def main() -> None:
    checkpoint, out, calibration = map(Path, sys.argv[1:])
    for file in checkpoint.rglob("*"):
        if file.is_file() and file.suffix in (".json", ".txt") and file.stat().st_size < _SMALL:
            place = out / file.relative_to(checkpoint)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
    limit = json.loads((out / "sentence_bert_config.json").read_text("utf-8"))["max_seq_length"]
    config = out / "tokenizer_config.json"
    config.write_text(
        json.dumps(json.loads(config.read_text("utf-8")) | {"model_max_length": limit}), "utf-8"
    )
    model = SentenceTransformer(str(checkpoint), backend="openvino")
    samples = sum(1 for _ in (calibration / "train.jsonl").open(encoding="utf-8"))
    export_static_quantized_openvino_model(
        model,
        OVQuantizationConfig(num_samples=min(samples, 300)),
        str(out),
        dataset_name=str(calibration),
        dataset_config_name="default",
        dataset_split="train",
        column_name="text",
    )


if __name__ == "__main__":
    main()
