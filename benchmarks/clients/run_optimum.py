"""Optimum's `ORTModelForFeatureExtraction`, mean-pooled and normalised by hand as its users do."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from ask import serve, written


@cache
def opened(folder: str, model_file: str) -> Any:
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    place, name = Path(model_file).parent.as_posix(), Path(model_file).name
    model = ORTModelForFeatureExtraction.from_pretrained(folder, subfolder=place, file_name=name)
    return AutoTokenizer.from_pretrained(folder), model


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    tokenizer, model = opened(request["folder"], request["model_file"])
    for text in written(prompt, cases):
        hidden = model(**tokenizer(text, return_tensors="np", truncation=True)).last_hidden_state[0]
        mean = hidden.mean(axis=0)
        yield mean / (mean @ mean) ** 0.5


if __name__ == "__main__":
    serve(encode, "optimum", "optimum-onnx", "transformers")
