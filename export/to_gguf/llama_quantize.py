"""llama.cpp's own quantizer, `llama_model_quantize`, through llama-cpp-python's bindings."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ringkas.errors import ArtifactError, MissingExtra
from ringkas.quantize.for_gguf.schemes import GgufScheme

Importance = Mapping[str, npt.NDArray[np.float32]]


def llama_quantize(
    source: Path, destination: Path, scheme: GgufScheme, importance: Importance | None = None
) -> None:
    """Rewrites the float GGUF file `source` in the types of `scheme`.

    Args:
        source: a file of f32 or f16 tensors.
        destination: what is written.
        scheme: its `file_type` chooses llama.cpp's mixture; its `table` is the token table's type.
        importance: by tensor name, the mean square of each input of the layer (an importance matrix). The
            types of the file stay those that it has without one.

    Raises:
        MissingExtra: llama-cpp-python is not installed.
        ArtifactError: llama.cpp refused.
    """
    try:
        import gguf
        import llama_cpp
    except ModuleNotFoundError as error:
        raise MissingExtra("gguf" if error.name == "gguf" else "llama-cpp-python", "gguf") from None
    from ringkas.runtimes.engine import usable_cores
    from ringkas.runtimes.engines.llama_engine import quiet_llama

    log = quiet_llama()
    params = llama_cpp.llama_model_quantize_default_params()
    params.nthread = usable_cores()
    params.ftype = scheme.file_type
    params.token_embedding_type = int(gguf.GGMLQuantizationType[_table_type(source, scheme)])
    kept = []  # ctypes holds no references: these must outlive the call
    if importance is not None:
        entries = (llama_cpp.llama_model_imatrix_data * (len(importance) + 1))()
        for entry, (name, values) in zip(entries, importance.items(), strict=False):
            array = np.ascontiguousarray(values, dtype=np.float32)
            kept.append(array)
            entry.name = name.encode("utf-8")
            entry.data = array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            entry.size = array.size
        params.imatrix = entries
        pinned = list(_types_without_importance(source, scheme))
        overrides = (llama_cpp.llama_model_tensor_override * (len(pinned) + 1))()
        for override, (name, kind) in zip(overrides, pinned, strict=False):
            override.pattern = f"^{re.escape(name)}$".encode()
            override.type = int(gguf.GGMLQuantizationType[kind])
        params.tt_overrides = overrides
    status = llama_cpp.llama_model_quantize(
        str(source).encode("utf-8"), str(destination).encode("utf-8"), ctypes.byref(params)
    )
    if status != 0:
        raise ArtifactError(
            f"llama.cpp could not quantize to {scheme.encoding}", why=log.last() or f"status {status}"
        )


def _types_without_importance(source: Path, scheme: GgufScheme) -> Iterator[tuple[str, str]]:
    """The linear layers to which llama.cpp gives another type as soon as there is an importance matrix."""
    from ringkas.quantize.for_gguf.schemes import fitting_type
    from ringkas.runtimes.engines.llama_header import read_header

    if scheme.weights != "IQ4_NL":  # of the types here, the only mixture that looks for one
        return
    downs = {n: t for n, t in read_header(source).tensors.items() if n.endswith(".ffn_down.weight")}
    for layer in range(len(downs) // 8):
        name = f"blk.{layer}.ffn_down.weight"
        yield name, fitting_type("Q5_K", downs[name].shape[0])


def _table_type(source: Path, scheme: GgufScheme) -> str:
    from ringkas.quantize.for_gguf.schemes import fitting_type
    from ringkas.runtimes.engines.llama_header import read_header

    # llama.cpp checks its fall-backs for linear layers only.
    return fitting_type(scheme.table, read_header(source).tensors["token_embd.weight"].shape[0])
