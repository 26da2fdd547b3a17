"""sentence-transformers on torch, or on its ONNX backend: run_sentence_transformers.py torch | onnx FILE.

FILE is one in the model's folder `onnx`.
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
    encoder = SentenceTransformer(model, backend=backend, device="cpu", model_kwargs=options)
    # Without a default prompt, as the artifacts are measured.
    return lambda texts: encoder.encode(texts, prompt="", normalize_embeddings=True, show_progress_bar=False)


if __name__ == "__main__":
    names = ("sentence-transformers", "transformers", "torch")
    serve(open_encoder, packages=(*names, "optimum-onnx", "onnxruntime") if sys.argv[1] == "onnx" else names)
