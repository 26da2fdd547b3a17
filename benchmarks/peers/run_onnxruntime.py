"""A graph in plain ONNX Runtime: run_onnxruntime.py FILE, of the model's folder."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenised import encoder
from worker import serve


def open_encoder(model: str, threads: int | None) -> Callable[[list[str]], np.ndarray]:
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = threads or 0
    session = InferenceSession(Path(model) / sys.argv[1], options, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return session.run(["last_hidden_state"], {name: inputs[name] for name in names})[0]

    return encoder(model, run)


if __name__ == "__main__":
    serve(open_encoder, packages=("onnxruntime", "tokenizers"))
