"""OpenVINO on the graph that Optimum exports: run_openvino.py [PRECISION].

By itself it computes in bf16 where the CPU has it; `f32` keeps it from that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenised import encoder
from worker import serve


def open_encoder(model: str, threads: int | None) -> Callable[[list[str]], np.ndarray]:
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY"}
    if threads:
        config["INFERENCE_NUM_THREADS"] = threads
    if len(sys.argv) > 2:
        config["INFERENCE_PRECISION_HINT"] = sys.argv[1]
    compiled = openvino.Core().compile_model(Path(model) / "onnx" / "model.onnx", "CPU", config)
    names = [one.get_any_name() for one in compiled.inputs]
    request = compiled.create_infer_request()

    def run(ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return request.infer({name: inputs[name] for name in names})[0]

    return encoder(model, run)


if __name__ == "__main__":
    serve(open_encoder, packages=("openvino", "tokenizers"))
