"""The rows of the kept tokens, streamed from safetensors to safetensors, byte for byte.

Neither torch nor NumPy's types take part: a row is bytes, so every dtype passes bit-identical, and only a
few megabytes are held at a time.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ringkas.errors import CheckpointError
from ringkas.families import FAMILIES
from ringkas.tensors import Tensor

# Tensors with a row a token, by the end of their name: the table itself and the heads tied to it.
TABLES = tuple(sorted({f"{family.token_table}.weight" for family in FAMILIES.values()}))
_HEADS = tuple(sorted({name for family in FAMILIES.values() for name in family.heads}))

_COPY_BYTES = 1 << 23
_ALIGNMENT = 8  # of the header, as safetensors' own writer


def table_of(tensors: Sequence[Tensor]) -> Tensor:
    """The embedding table.

    Raises:
        CheckpointError: there is none, or more than one.
    """
    found = [tensor for tensor in tensors if tensor.name.endswith(TABLES)]
    if len(found) != 1 or len(found[0].shape) != 2:
        raise CheckpointError(
            f"the checkpoint has {len(found)} token embedding tables",
            why="exactly one is cut",
            fix="Looked for: " + ", ".join(TABLES),
        )
    return found[0]


def parameters(tensors: Sequence[Tensor]) -> int:
    """The number of values in all tensors."""
    return sum(prod(tensor.shape) for tensor in tensors)


def write_kept_rows(tensors: Sequence[Tensor], kept: Sequence[int], file: Path) -> list[str]:
    """Writes all tensors to `file`, those with a row a token cut to the rows `kept`; returns notes.

    Raises:
        CheckpointError: a tensor that is not known to be one of them has as many rows as the table.
    """
    rows = table_of(tensors).shape[0]
    if max(kept) >= rows:
        raise CheckpointError(
            f"the tokenizer has ids up to {max(kept)}, the embedding table {rows} rows",
            fix="Use the tokenizer that belongs to these weights",
        )
    cut = {tensor.name for tensor in tensors if _has_a_row_a_token(tensor, rows)}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        shape = (len(kept), *tensor.shape[1:]) if tensor.name in cut else tensor.shape
        size = len(kept) * tensor.row_bytes if tensor.name in cut else tensor.size
        header[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    encoded = json.dumps(header, separators=(",", ":")).encode("utf-8")
    encoded += b" " * (-len(encoded) % _ALIGNMENT)
    with file.open("wb") as output:
        output.write(struct.pack("<Q", len(encoded)) + encoded)
        for tensor in tensors:
            for chunk in rows_of(tensor, kept) if tensor.name in cut else _whole(tensor):
                output.write(chunk)
    heads = sorted(cut - {table_of(tensors).name})
    return [f"{name} was cut to the same rows" for name in heads]


def _has_a_row_a_token(tensor: Tensor, rows: int) -> bool:
    known = tensor.name.endswith(TABLES) or tensor.name.endswith(_HEADS)
    if not tensor.shape or tensor.shape[0] != rows:
        return False
    if not known:
        raise CheckpointError(
            f"the tensor {tensor.name} has as many rows as the vocabulary",
            why="it is not known whether it has a row a token",
            fix="Remove it if the encoder does not need it",
        )
    return True


def rows_of(tensor: Tensor, ids: Sequence[int]) -> Iterator[bytes]:
    """The bytes of rows `ids` of a tensor, in order, some megabytes at a time."""
    at_once = max(1, _COPY_BYTES // max(1, tensor.row_bytes))
    wanted = np.asarray(ids, dtype=np.int64)
    with tensor.file.open("rb") as source:
        for first in range(0, len(wanted), at_once):
            some = wanted[first : first + at_once]
            # One read from the lowest to the highest of these rows, unless they lie far apart.
            low, high = int(some.min()), int(some.max()) + 1
            if high - low <= 8 * len(some):
                block = _read(source, tensor, low * tensor.row_bytes, (high - low) * tensor.row_bytes)
                table = np.frombuffer(block, dtype=np.uint8).reshape(high - low, tensor.row_bytes)
                yield table[some - low].tobytes()
            else:
                yield b"".join(
                    _read(source, tensor, row * tensor.row_bytes, tensor.row_bytes) for row in some.tolist()
                )


def _whole(tensor: Tensor) -> Iterator[bytes]:
    with tensor.file.open("rb") as source:
        for first in range(0, tensor.size, _COPY_BYTES):
            yield _read(source, tensor, first, min(_COPY_BYTES, tensor.size - first))


def _read(source: BinaryIO, tensor: Tensor, offset: int, size: int) -> bytes:
    source.seek(tensor.start + offset)
    data = source.read(size)
    if len(data) != size:
        raise CheckpointError(f"{tensor.file} is cut short", fix="Fetch the checkpoint again")
    return data
