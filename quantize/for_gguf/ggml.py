"""ggml's own row quantizer, for the types that the gguf package reads but does not write."""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ringkas.errors import MissingExtra

_ROWS = 4096  # that one thread rounds at a time


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

    def quantize_from(start: int) -> None:
        quantize(
            int(number), source[start:].ctypes.data, out[start:].ctypes.data, 0, min(_ROWS, rows - start),
            columns, None if weights is None else weights.ctypes.data,
        )  # fmt: skip

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(quantize_from, range(0, rows, _ROWS)))
    return out
