"""OpenVINO on the graph that Optimum exports, with the precision that it chooses by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenised import encoder
from worker import serve


def open_encoder(model: str, threads: int | None) -> Callable[[list[str]], np.ndarray]:
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY"} | ({"INFERENCE_NUM_THREADS": threads} if threads else {})
    compiled = openvino.Core().compile_model(Path(model) / "onnx" / "model.onnx", "CPU", config)
    names = [one.get_any_name() for one in compiled.inputs]
    request = compiled.create_infer_request()

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return request.infer({name: inputs[name] for name in names})[0]

    return encoder(model, run)


if __name__ == "__main__":
    serve(open_encoder, packages=("openvino", "tokenizers"))
