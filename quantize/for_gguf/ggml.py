"""ggml's own row quantizer, for the types that the gguf package reads but does not write."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from ringkas.errors import MissingExtra


def ggml_quantize(
    values: npt.NDArray[np.float32], kind: str, importance: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.uint8]:
    """Weights of shape (rows, columns) as bytes of the ggml type `kind`, by llama.cpp's scale search.

    `importance`, of shape (columns,), weighs the squared errors.

    Raises:
        MissingExtra: gguf or llama-cpp-python is not installed.
    """
    try:
        import gguf
        from llama_cpp._ggml import libggml
    except ModuleNotFoundError as error:
        raise MissingExtra("gguf" if error.name == "gguf" else "llama-cpp-python", "gguf") from None
    number = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[number]
    rows, columns = values.shape
    source = np.ascontiguousarray(values, dtype=np.float32)
    out = np.empty((rows, columns // block * size), dtype=np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    quantize: Any = libggml.ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64,
        ctypes.c_void_p,
    ]  # fmt: skip
    quantize(
        int(number), source.ctypes.data, out.ctypes.data, 0, rows, columns,
        None if weights is None else weights.ctypes.data,
    )  # fmt: skip
    return out


def round_trip(values: npt.NDArray[np.float32], kind: str) -> npt.NDArray[np.float32]:
    """What a reader of the file gets for `values` stored as `kind`."""
    import gguf

    number = gguf.GGMLQuantizationType[kind]
    stored = ggml_quantize(values, kind) if kind == "IQ4_NL" else gguf.quantize(values, number)
    back: npt.NDArray[np.float32] = gguf.dequantize(stored, number)
    return back.reshape(values.shape)
