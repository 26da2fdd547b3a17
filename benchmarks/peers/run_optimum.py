"""Optimum's ORTModel, fed by transformers' tokenizer, pooled as its users do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tokenised import BATCH, pool
from worker import serve


def open_encoder(model: str, threads: int | None) -> Callable[[list[str]], np.ndarray]:
    from onnxruntime import SessionOptions
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    session = SessionOptions()
    session.intra_op_num_threads = threads or 0
    graph = ORTModelForFeatureExtraction.from_pretrained(
        model,
        subfolder="onnx",
        file_name="model.onnx",
        provider="CPUExecutionProvider",
        session_options=session,
    )
    tokenizer = AutoTokenizer.from_pretrained(model)

    def encode(texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        rows: list[np.ndarray] = []
        for start in range(0, len(order), BATCH):
            batch = [texts[row] for row in order[start : start + BATCH]]
            inputs = tokenizer(batch, padding=True, truncation=True, return_tensors="np")
            rows.extend(pool(graph(**inputs).last_hidden_state, inputs["attention_mask"]))
        vectors = np.empty((len(texts), len(rows[0])), dtype=np.float32)
        vectors[order] = rows
        return vectors

    return encode


if __name__ == "__main__":
    serve(open_encoder, packages=("optimum-onnx", "onnxruntime", "transformers"))
