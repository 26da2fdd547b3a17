"""ONNX Runtime alone, given the facade's token ids."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ask import serve


@cache
def opened(graph: str) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    import numpy as np

    session = opened(str(Path(request["folder"]) / request["model_file"]))
    for case in cases:
        ids = np.array([case["ids"]], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        yield session.run(["sentence_embedding"], feed)[0][0]


if __name__ == "__main__":
    serve(encode, "onnxruntime", "numpy")
