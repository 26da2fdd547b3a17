"""The targets: what can be built, which engine runs it, and which extra each side needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ringkas.errors import TargetError


@dataclass(frozen=True)
class Target:
    """One kind of artifact. `precision` names the row of the floor table that judges it."""

    name: str
    engine: str
    precision: str


TARGETS: Mapping[str, Target] = (
    {
        target.name: target
        for target in (
            Target("pytorch-fp32", "pytorch", "fp32"),
            Target("onnx-fp32", "onnxruntime", "fp32"),
            Target("onnx-fp16", "onnxruntime", "fp16"),
            Target("onnx-int8", "onnxruntime", "8bit"),
            Target("onnx-int4", "onnxruntime", "4bit"),
        )
    }
    | {
        name: Target(name, "llama.cpp", precision)
        for name, precision in {
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
        }.items()
    }
    | {
        f"{engine}-{name}": Target(f"{engine}-{name}", engine, precision)
        for engine in ("tensorrt", "tensorrt-rtx")
        for name, precision in {"fp16": "fp16", "bf16": "bf16", "fp8": "fp8", "int8": "8bit"}.items()
    }
)


def target(name: str) -> Target:
    """The target of that name.

    Raises:
        TargetError: there is none.
    """
    if name in TARGETS:
        return TARGETS[name]
    raise TargetError(f"there is no target {name!r}", fix="Choose from: " + ", ".join(TARGETS))
