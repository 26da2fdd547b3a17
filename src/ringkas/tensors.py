"""The heads of a checkpoint's safetensors files, read and checked before any library opens them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import msgspec

from ringkas.checkpoint import SHARDED_WEIGHTS, WEIGHTS
from ringkas.errors import CheckpointError
from ringkas.files import is_inside, read_whole

_MOST_HEADER = 100_000_000  # safetensors' own bound
_BYTES: Mapping[str, int] = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file; `start` and `size` are bytes from the beginning of the file."""

    name: str
    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    size: int

    @property
    def row_bytes(self) -> int:
        return self.size // self.shape[0]


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class _Entry(msgspec.Struct):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


def read_tensors(folder: Path) -> list[Tensor]:
    """The tensors of a checkpoint folder, one file or many, in order.

    Raises:
        CheckpointError: a file is missing, cut short or damaged, or lies elsewhere.
    """
    index = folder / SHARDED_WEIGHTS
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and index.is_file():
        names = _shards(index)
    return [tensor for name in names for tensor in _tensors(folder / name)]


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(msgspec.json.decode(read_whole(index), type=_Index).weight_map.values()))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _corrupt(index, error) from None
    strange = next((name for name in names if not _is_shard(name)), None)
    if strange is not None:
        raise CheckpointError(f"{index} names {strange[:80]!r}, which is no safetensors file of this folder")
    return names


def _is_shard(name: str) -> bool:
    return is_inside(name) and "\0" not in name and name.endswith(".safetensors") and len(name) < 256


def _tensors(file: Path) -> Iterator[Tensor]:
    try:
        size = file.stat().st_size
        if not file.is_file():
            raise ValueError("it is not a regular file")
        with file.open("rb") as source:
            (length,) = struct.unpack("<Q", source.read(8))
            if length > min(size, _MOST_HEADER):
                raise ValueError(f"its header claims {length} bytes")
            header = msgspec.json.decode(source.read(length), type=dict[str, msgspec.Raw])
        header.pop("__metadata__", None)
        for name, stated in header.items():
            entry = msgspec.json.decode(stated, type=_Entry)
            start, end = entry.data_offsets
            wanted = prod(entry.shape) * _BYTES[entry.dtype] if entry.dtype in _BYTES else end - start
            if min(entry.shape, default=0) < 0 or start < 0 or end - start != wanted:
                raise ValueError(f"{name} has not the bytes of its shape")
            if 8 + length + end > size:
                raise ValueError(f"{name} ends beyond the file")
            yield Tensor(name, file, entry.dtype, entry.shape, 8 + length + start, end - start)
    except (OSError, ValueError, RecursionError, msgspec.DecodeError, struct.error) as error:
        raise _corrupt(file, error) from None


def _corrupt(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file} is truncated or corrupt",
        why=(getattr(error, "strerror", None) or str(error)).partition("\n")[0][:300],
        fix="Fetch the checkpoint again",
    )
