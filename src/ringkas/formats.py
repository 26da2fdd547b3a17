"""The formats: one row for each, with its targets, the engines that run it and what converting needs.

What a format does is one module, `writer`, with the same functions in each (export/finish.py says which).
To add one, add its row and that module.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ringkas.extras import TO_GGUF, TO_ONNX, TO_PYTORCH


@dataclass(frozen=True)
class Format:
    """One kind of artifact.

    Args:
        writer: the module that writes and judges it.
        needs: what converting needs, a part of extras.py; asked for before any work is done.
        engines: by the name that a manifest has, the module that runs it: each has
            `open_engine(artifact, threads, device)`. The first is the default.
        targets: by name, the precision: the row of the floor table that judges it.
        plans: its artifacts hold a plan, which is built for a GPU.
        streams: it can be made of a checkpoint that is larger than the memory, tensor by tensor.
        any_dtype: its weights can be loaded in another type than the artifact's (`load(dtype=...)`).
    """

    writer: str
    needs: str
    engines: Mapping[str, str]
    targets: Mapping[str, str]
    plans: bool = False
    streams: bool = False
    any_dtype: bool = False

    @property
    def engine(self) -> str:
        return next(iter(self.engines))


_TENSORRT = "ringkas.export.to_tensorrt.format"
_TENSORRT_ENGINE = "ringkas.runtimes.engines.tensorrt_engine"
_PRECISIONS = {"fp16": "fp16", "bf16": "bf16", "fp8": "fp8", "int8": "8bit"}

FORMATS: dict[str, Format] = {
    "pytorch": Format(
        "ringkas.export.to_pytorch",
        TO_PYTORCH,
        {"pytorch": "ringkas.runtimes.engines.pytorch_engine"},
        {"pytorch-fp32": "fp32"},
        any_dtype=True,
    ),
    "onnx": Format(
        "ringkas.export.to_onnx.format",
        TO_ONNX,
        {"onnxruntime": "ringkas.runtimes.engines.onnxruntime_engine"},
        {
            "onnx-fp32": "fp32",
            "onnx-fp16": "fp16",
            "onnx-int8": "8bit",
            "onnx-int4": "4bit",
            "onnx-int3": "3bit",
        },
    ),
    "gguf": Format(
        "ringkas.export.to_gguf.format",
        TO_GGUF,
        {"llama.cpp": "ringkas.runtimes.engines.llama_engine"},
        {
            "gguf-f32": "fp32",
            "gguf-f16": "fp16",
            "gguf-bf16": "bf16",
            "gguf-q8_0": "8bit",
            "gguf-q6_k": "6bit",
            "gguf-q5_k_m": "5bit",
            "gguf-q5_1": "5bit",
            "gguf-q5_0": "5bit",
            "gguf-q5_0-gptq": "5bit",
            "gguf-q4_k_m": "4bit",
            "gguf-q4_1": "4bit",
            "gguf-q4_0": "4bit",
            "gguf-iq4_nl": "4bit",
            "gguf-iq4_nl-gptq": "4bit",
        },
        streams=True,
    ),
    # Needs are those of the graph, and of ONNX Runtime, its oracle; the builder is asked for by the writer.
    "tensorrt": Format(
        _TENSORRT,
        TO_ONNX,
        {"tensorrt": _TENSORRT_ENGINE},
        {f"tensorrt-{name}": precision for name, precision in _PRECISIONS.items()},
        plans=True,
    ),
    "tensorrt-rtx": Format(
        _TENSORRT,
        TO_ONNX,
        {"tensorrt-rtx": _TENSORRT_ENGINE},
        {f"tensorrt-rtx-{name}": precision for name, precision in _PRECISIONS.items()},
        plans=True,
    ),
}


def format_of(engine: str) -> Format | None:
    """The format that an engine runs; None where no such engine is known."""
    return next((one for one in FORMATS.values() if engine in one.engines), None)
