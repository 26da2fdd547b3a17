"""sentence-transformers: run_sentence_transformers.py torch | onnx FILE | openvino FILE, its backends.

FILE is one in the model's folder that is named as the backend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from worker import serve


def open_encoder(model: str, threads: int | None) -> Callable[[list[str]], np.ndarray]:
    import torch
    from sentence_transformers import SentenceTransformer

    backend = sys.argv[1]
    if threads:
        torch.set_num_threads(threads)
    options = {}
    if backend == "onnx":
        from onnxruntime import SessionOptions

        session = SessionOptions()
        session.intra_op_num_threads = threads or 0
        options = {
            "subfolder": "onnx",
            "file_name": sys.argv[2],
            "provider": "CPUExecutionProvider",
            "session_options": session,
        }
    if backend == "openvino":
        config = {"PERFORMANCE_HINT": "LATENCY"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
        options = {"file_name": f"openvino/{sys.argv[2]}", "ov_config": config}
    encoder = SentenceTransformer(model, backend=backend, device="cpu", model_kwargs=options)
    # Without a default prompt, as the artifacts are measured.
    return lambda texts: encoder.encode(texts, prompt="", normalize_embeddings=True, show_progress_bar=False)


if __name__ == "__main__":
    beside = {"torch": (), "onnx": ("optimum-onnx", "onnxruntime"), "openvino": ("optimum-intel", "openvino")}
    serve(open_encoder, packages=("sentence-transformers", "transformers", "torch", *beside[sys.argv[1]]))
