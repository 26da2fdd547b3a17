"""The tensors of a GGUF file: each with its name, its role, the type it was given and its bytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.export.to_gguf.architecture import Architecture
from ringkas.quantize.for_gguf.schemes import GgufScheme, fits, fitting_type

if TYPE_CHECKING:
    import torch

# Roles of tensors by their GGUF name; every other matrix is a linear layer, every vector stays float32.
TABLE, POSITIONS, TOKEN_TYPES = "token_embd.weight", "position_embd.weight", "token_types.weight"
LINEAR = "linear"
_PAIRED = re.compile(r"\.attn_[qk]\.(weight|bias)$")


@dataclass(frozen=True)
class GgufTensor:
    """One tensor: `kind` is its ggml type, `asked` the type that the scheme names for it.

    `head` is the width of the heads whose rows are put in pairs (0: they stay in order), `shift` what is
    added to every value.
    """

    name: str
    source: str
    shape: tuple[int, ...]
    kind: str
    asked: str
    head: int = 0
    shift: float = 0.0

    @property
    def role(self) -> str:
        if len(self.shape) == 1:
            return "vector"
        named = {TABLE: "token table", POSITIONS: "positions", TOKEN_TYPES: "token types"}
        return named.get(self.name, LINEAR)


def plan_tensors(
    checkpoint: Checkpoint,
    architecture: Architecture,
    scheme: GgufScheme,
    shapes: Mapping[str, tuple[int, ...]],
) -> list[GgufTensor]:
    """Every tensor of the checkpoint's encoder, in its order, with the type that it will have.

    Raises:
        CheckpointError: a tensor has no place in llama.cpp's graph, or the position table is too short.
    """
    offset = checkpoint.family.position_offset(checkpoint.config)
    planned = []
    for source, own in shapes.items():
        name, shape = architecture.gguf_name(source), own
        if name == POSITIONS:
            shape = (shape[0] - offset, shape[1])
            if shape[0] < checkpoint.spec.max_length:
                raise CheckpointError(
                    f"{checkpoint.name} has {shape[0]} positions for {checkpoint.spec.max_length} tokens",
                    fix="Correct max_seq_length in sentence_bert_config.json",
                )
            # llama.cpp wants as many rows as the context length, which is the limit.
            shape = (checkpoint.spec.max_length, shape[1])
        asked = _asked_type(name, shape, scheme)
        planned.append(GgufTensor(name, source, shape, fitting_type(asked, shape[-1]), asked))
    return [_arranged_as(architecture, checkpoint, tensor, planned) for tensor in planned]


def _arranged_as(
    architecture: Architecture, checkpoint: Checkpoint, tensor: GgufTensor, planned: Sequence[GgufTensor]
) -> GgufTensor:
    """The tensor with what llama.cpp's graph wants done to its values."""
    if architecture.gguf.norm_shift and tensor.name.endswith("norm.weight"):
        return replace(tensor, shift=architecture.gguf.norm_shift)
    if architecture.gguf.paired_rotary and _PAIRED.search(tensor.name):
        queries = next(one.shape[0] for one in planned if one.name == "blk.0.attn_q.weight")
        heads = int(checkpoint.family.value(checkpoint.config, "num_attention_heads"))
        return replace(tensor, head=queries // heads)
    return tensor


def in_order(tensor: GgufTensor, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rows of transformers' tensor, float or packed, in the order of the file.

    transformers rotates channel i of a head with i + half, llama.cpp's `llama` graph 2i with 2i + 1.
    """
    if not tensor.head:
        return rows
    places = np.arange(len(rows)).reshape(-1, 2, tensor.head // 2).swapaxes(1, 2).reshape(-1)
    return np.ascontiguousarray(rows[places])


def tensor_values(
    tensor: GgufTensor, checkpoint: Checkpoint, state: Mapping[str, torch.Tensor]
) -> npt.NDArray[np.float32]:
    """The float32 weights of a planned tensor; the rows of the position table that no text uses are cut."""
    values: npt.NDArray[np.float32] = state[tensor.source].float().numpy()
    if tensor.name == POSITIONS:
        offset = checkpoint.family.position_offset(checkpoint.config)
        values = values[offset : offset + checkpoint.spec.max_length]
    if tensor.shift:
        values = values + np.float32(tensor.shift)
    return in_order(tensor, np.ascontiguousarray(values))


def write_tensors(
    writer: Any, tensors: Sequence[GgufTensor], encode: Callable[[GgufTensor], npt.NDArray[Any]]
) -> None:
    """Writes header, keys and tensors of a `gguf.GGUFWriter`; one tensor's bytes are held at a time."""
    import gguf

    for tensor in tensors:
        kind = gguf.GGMLQuantizationType[tensor.kind]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        nbytes = prod(tensor.shape) // block * size
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), nbytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(encode(tensor))
    writer.close()


def describe(tensors: Sequence[GgufTensor]) -> dict[str, Any]:
    """Types by role, fall-backs, and bits a weight, for the manifest."""
    by_role: dict[str, Counter[str]] = {}
    for tensor in tensors:
        by_role.setdefault(tensor.role, Counter())[tensor.kind] += 1
    return {
        "types": {role: dict(counts) for role, counts in by_role.items()},
        "fallbacks": dict(_fallbacks(tensors)),
        "bits_per_weight": round(8 * sum(map(_nbytes, tensors)) / sum(prod(t.shape) for t in tensors), 3),
    }


def fallback_warnings(tensors: Sequence[GgufTensor]) -> tuple[str, ...]:
    """One sentence for each kind of fall-back."""
    seen = Counter((t.asked, t.kind, t.shape[-1]) for t in tensors if _fell_back(t))
    return tuple(
        f"{count} tensors have rows of {row} weights, which {asked} cannot hold: they are {kind}"
        for (asked, kind, row), count in seen.items()
    )


def _fallbacks(tensors: Sequence[GgufTensor]) -> Iterator[tuple[str, str]]:
    for tensor in tensors:
        if _fell_back(tensor):
            yield tensor.name, f"{tensor.asked} -> {tensor.kind}"


def _fell_back(tensor: GgufTensor) -> bool:
    # llama.cpp's mixtures give some tensors another type than the file is named for, by their place alone.
    return tensor.kind != tensor.asked and not fits(tensor.asked, tensor.shape[-1])


def _nbytes(tensor: GgufTensor) -> int:
    import gguf

    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[tensor.kind]]
    return prod(tensor.shape) // block * size


def _asked_type(name: str, shape: tuple[int, ...], scheme: GgufScheme) -> str:
    if len(shape) == 1 or name == TOKEN_TYPES:  # llama.cpp adds row 0 of the token types as it is
        return "F32"
    if name == TABLE:
        return scheme.table
    if name == POSITIONS:
        return scheme.positions
    return scheme.linear_type(name)
