"""What transformers.js must be told of a folder's graphs, in the folder's own `config.json`.

It picks a graph by its `dtype`, and reads weights that lie beside one only where it is told of them. Unless
both stand under `transformers.js_config`, each user has to say so in code (its src/models/session.js).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# By the name of a graph in onnx/, the `dtype` that finds it; the best choice on a CPU comes first.
DTYPES: Mapping[str, str] = {
    "model_quantized.onnx": "q8",
    "model_q4.onnx": "q4",
    "model_q2.onnx": "q2",
    "model_fp16.onnx": "fp16",
    "model.onnx": "fp32",
}
CONFIG_KEY = "transformers.js_config"
DATA_SUFFIX = "_data"


def describe_graphs(folder: Path) -> None:
    """Writes which graph of `folder` is meant where nothing is said, and which have weights beside them.

    A folder without `config.json`, which holds a graph alone, stays as it is.
    """
    file = folder / "config.json"
    if not file.is_file():
        return
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    names = [name for name in DTYPES if (folder / "onnx" / name).is_file()]
    told: dict[str, Any] = {"dtype": DTYPES[names[0]]} if names else {}
    beside = {name: 1 for name in names if (folder / "onnx" / f"{name}{DATA_SUFFIX}").is_file()}
    if beside:
        told["use_external_data_format"] = beside
    config[CONFIG_KEY] = told
    file.write_text(json.dumps(config, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
