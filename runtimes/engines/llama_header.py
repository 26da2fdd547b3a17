"""The head of a GGUF file, read and checked before llama.cpp sees it.

llama.cpp ends the whole process over some damaged files. Whatever it would do that for is looked for here:
a number out of range, a tensor past the end, a shape or a type that its graph cannot take.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from ringkas.errors import ArtifactError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_ENTRIES = 1 << 16  # keys, tensors
_LONGEST_NAME = 1 << 16
_MOST_DIMENSIONS = 4
_REBUILD = "Build or copy the artifact again"

# ggml's number of a tensor type: its name, weights a block, bytes a block.
TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2),
    2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34), 20: ("IQ4_NL", 32, 18),
    10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 23: ("IQ4_XS", 256, 136),
}  # fmt: skip

# The number of a value's type in the file: its form for `struct`.
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9


@dataclass(frozen=True)
class TensorInfo:
    """One tensor; `shape` is in ggml's order (the length of a row first), `offset` from the file's start."""

    shape: tuple[int, ...]
    kind: str
    offset: int
    size: int


@dataclass(frozen=True)
class GgufHeader:
    """Keys and tensors. An array of numbers is kept as (count, bytes), one of strings as bytes objects."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def shape_key(self, name: str) -> Any:
        """A key of the architecture, for example `embedding_length`; None when it is absent."""
        return self.metadata.get(f"{self.architecture}.{name}")


class _Reader:
    """Reads little-endian values from a mapped file and never past its end."""

    def __init__(self, data: mmap, path: Path) -> None:
        self.data, self.path, self.at = data, path, 0
        self.size = len(data)

    def fail(self, what: str) -> ArtifactError:
        return ArtifactError(f"{self.path} is not a usable GGUF file", why=what, fix=_REBUILD)

    def take(self, count: int) -> bytes:
        start, end = self.at, self.at + count
        if end > self.size:
            raise self.fail("it is cut short or altered: a value reaches past its end")
        self.at = end
        return self.data[start:end]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self, most: int, what: str) -> int:
        value = int(self.number("<Q"))
        if value > most:
            raise self.fail(f"it is altered: it claims {value} {what}")
        return value

    def string(self) -> str:
        return self.take(int(self.number("<Q"))).decode("utf-8", errors="surrogateescape")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array()
        raise self.fail(f"it is altered: there is no value type {kind}")

    def _array(self) -> Any:
        kind, count = int(self.number("<I")), int(self.number("<Q"))
        if kind in _SCALARS:
            return count, self.take(count * struct.calcsize(_SCALARS[kind]))
        if kind != _STRING or count > self.size:
            raise self.fail(f"it is altered: an array of {count} values of type {kind}")
        return self._strings(count)

    def _strings(self, count: int) -> list[bytes]:
        # A quarter of a million in a multilingual file: without calls, a tenth of the time.
        data, at, size, length_of = self.data, self.at, self.size, struct.Struct("<Q").unpack_from
        found = []
        for _ in range(count):
            if at + 8 > size:
                break
            end = at + 8 + length_of(data, at)[0]
            found.append(data[at + 8 : end])
            at = end
        if len(found) < count or at > size:
            raise self.fail("it is cut short or altered: its strings reach past its end")
        self.at = at
        return found


def read_header(path: Path) -> GgufHeader:
    """Reads the keys and the tensor list of a GGUF file and checks that every tensor lies inside it.

    Raises:
        ArtifactError: not GGUF, cut short, or altered.
    """
    try:
        with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
            return _read(_Reader(data, path))
    except ValueError:  # mmap of nothing
        raise ArtifactError(f"{path} is empty", fix=_REBUILD) from None
    except OSError as error:
        raise ArtifactError(f"cannot read {path}", why=error.strerror or str(error)) from None


def _read(reader: _Reader) -> GgufHeader:
    if reader.size < 24 or reader.take(4) != _MAGIC:
        raise reader.fail("it does not start with GGUF")
    version = int(reader.number("<I"))
    if version not in _VERSIONS:
        raise reader.fail(f"it has the GGUF version {version}, not 2 or 3")
    tensor_count = reader.count(_MOST_ENTRIES, "tensors")
    metadata = {}
    for _ in range(reader.count(_MOST_ENTRIES, "keys")):
        key = reader.string()
        metadata[key] = reader.value(int(reader.number("<I")))
    listed = [_tensor(reader) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= _LONGEST_NAME or alignment % 8:
        raise reader.fail(f"it is altered: its alignment is {alignment}")
    start = -(-reader.at // alignment) * alignment
    tensors: dict[str, TensorInfo] = {}
    for name, tensor in listed:
        if name in tensors:
            raise reader.fail(f"it lists the tensor {name} twice")
        if tensor.offset % alignment or start + tensor.offset + tensor.size > reader.size:
            raise reader.fail(f"it is cut short or altered: the tensor {name} reaches past its end")
        tensors[name] = TensorInfo(tensor.shape, tensor.kind, start + tensor.offset, tensor.size)
    return GgufHeader(metadata, tensors)


def _tensor(reader: _Reader) -> tuple[str, TensorInfo]:
    name = reader.string()
    dimensions = int(reader.number("<I"))
    if not 1 <= dimensions <= _MOST_DIMENSIONS:
        raise reader.fail(f"it is altered: the tensor {name} has {dimensions} dimensions")
    shape = tuple(int(reader.number("<Q")) for _ in range(dimensions))
    number, offset = int(reader.number("<I")), int(reader.number("<Q"))
    if number not in TENSOR_TYPES:
        raise reader.fail(f"the tensor {name} has the type {number}, which no encoder here uses")
    kind, block, size = TENSOR_TYPES[number]
    if min(shape) < 1 or shape[0] % block:
        raise reader.fail(f"it is altered: the tensor {name} has the shape {shape} in {kind}")
    return name, TensorInfo(shape, kind, offset, prod(shape) // block * size)
