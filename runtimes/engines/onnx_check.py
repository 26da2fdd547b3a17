"""The skeleton of an ONNX file, read and checked before a native parser sees it.

Weights may come from anybody. Looked for is what an honest encoder never has and a parser should not be
trusted with: data that lie outside the folder or past the end of a file, a tensor whose bytes are not those
of its shape, graphs inside of nodes (loops and branches), operators of unknown libraries. Tensors' bytes are
skipped, so that a file of gigabytes takes milliseconds. Source of the numbers: onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path

from ringkas.errors import ArtifactError
from ringkas.files import is_inside

_MODEL_GRAPH, _MODEL_FUNCTIONS, _MODEL_TRAINING = 7, 25, 20
_GRAPH_NODE, _GRAPH_TENSOR, _GRAPH_SPARSE = 1, 5, 15
_NODE_ATTRIBUTE, _NODE_DOMAIN = 5, 7
_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS = 5, 10
_ATTRIBUTE_GRAPHS = (6, 11, 22, 23)  # graphs and sparse tensors, one or many
_DIMS, _TYPE, _NAME, _RAW, _EXTERNAL, _LOCATION = 1, 2, 8, 9, 13, 14
_VARINT, _BYTES = 0, 2
_WIDTHS = {1: 8, _BYTES: 0, 5: 4}  # bytes of a value of each kind of field; those of _BYTES say it themselves
_SMALL = 1 << 12
# Bits of a value, by TensorProto.DataType; a string (8) has no place in an encoder.
_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
_DOMAINS = frozenset({b"", b"ai.onnx", b"com.microsoft"})
_MOST_NODES = 1 << 17
_MOST_VALUES = 1 << 40


class _Wrong(ValueError):
    """Why a file is refused."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of the file that holds one message."""

    data: mmap | bytes
    start: int
    end: int

    def fields(self) -> Iterator[tuple[int, int | _Part]]:
        """The number of each field, and its value: a number, or the stretch of a message or of bytes."""
        data, at, end = self.data, self.start, self.end
        while at < end:
            key, at = self._varint(at)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                value, at = self._varint(at)
                yield number, value
                continue
            if kind not in _WIDTHS:
                raise _Wrong(f"a field of kind {kind}")
            size, at = (_WIDTHS[kind], at) if kind != _BYTES else self._varint(at)
            if at + size > end:
                raise _Wrong("a field reaches past its end")
            yield number, _Part(data, at, at + size)
            at += size

    def copied(self) -> _Part:
        """The same out of the file, which is faster to go through where it is small."""
        size = self.end - self.start
        return _Part(self.data[self.start : self.end], 0, size) if size <= _SMALL else self

    def bytes(self, most: int = 4096) -> bytes:
        if self.end - self.start > most:
            raise _Wrong(f"a name of {self.end - self.start} bytes")
        return self.data[self.start : self.end]

    def numbers(self) -> list[int]:
        """Packed varints."""
        found, at = [], self.start
        while at < self.end:
            value, at = self._varint(at)
            found.append(value)
        return found

    def _varint(self, at: int) -> tuple[int, int]:
        if at < self.end and (byte := self.data[at]) < 128:  # nearly always
            return byte, at + 1
        value = shift = 0
        while at < self.end and shift < 70:
            byte = self.data[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
            shift += 7
        raise _Wrong("a number without an end")


def check_graph(path: Path) -> None:
    """Raises `ArtifactError` unless the file is a graph such as an encoder's, with all data in its folder."""
    try:
        with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as data:
            _check_model(_Part(data, 0, len(data)), path.parent)
    except (ValueError, OSError) as error:  # mmap of nothing is a ValueError too
        raise ArtifactError(
            f"{path} is not an ONNX graph that can be run", why=str(error), fix="Build or copy it again"
        ) from None


def _check_model(model: _Part, folder: Path) -> None:
    graphs = 0
    for number, value in model.fields():
        if number in (_MODEL_FUNCTIONS, _MODEL_TRAINING):
            raise _Wrong("it has functions or training of its own, which no encoder here has")
        if number == _MODEL_GRAPH:
            graphs += 1
            _check_content(_message(value), folder)
    if graphs != 1:
        raise _Wrong(f"it holds {graphs} graphs")


def _check_content(graph: _Part, folder: Path) -> None:
    nodes = 0
    for number, value in graph.fields():
        if number == _GRAPH_SPARSE:
            raise _Wrong("it has sparse tensors, which no encoder here has")
        if number == _GRAPH_TENSOR:
            _check_tensor(_message(value), folder)
        elif number == _GRAPH_NODE:
            nodes += 1
            _check_node(_message(value).copied(), folder)
    if not 0 < nodes <= _MOST_NODES:
        raise _Wrong(f"it has {nodes} nodes")


def _check_node(node: _Part, folder: Path) -> None:
    for number, value in node.fields():
        if number == _NODE_DOMAIN and _message(value).bytes() not in _DOMAINS:
            raise _Wrong(f"it uses operators of {_message(value).bytes()!r}")
        if number == _NODE_ATTRIBUTE:
            for kind, content in _message(value).fields():
                if kind in _ATTRIBUTE_GRAPHS:
                    raise _Wrong("a node holds a graph, which no encoder's does")
                if kind in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    _check_tensor(_message(content), folder)


@dataclass
class _Tensor:
    """What a tensor says of itself; `raw` is how many bytes it holds."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    kind: int = 0
    raw: int | None = None
    outside: bool = False
    external: dict[bytes, bytes] = field(default_factory=dict)

    def take(self, number: int, value: int | _Part) -> None:
        if isinstance(value, int):
            if number == _DIMS:
                self.dims.append(value)
            elif number == _TYPE:
                self.kind = value
            elif number == _LOCATION:
                self.outside = value != 0
        elif number == _DIMS:
            self.dims += value.numbers()
        elif number == _RAW:
            self.raw = value.end - value.start
        elif number == _NAME:
            self.name = value.bytes().decode("utf-8", "replace")[:80]
        elif number == _EXTERNAL:
            entry = {key: _message(text).bytes() for key, text in value.fields()}
            self.external[entry.get(1, b"")] = entry.get(2, b"")


def _check_tensor(message: _Part, folder: Path) -> None:
    tensor = _Tensor()
    for number, value in message.copied().fields():
        tensor.take(number, value)
    if tensor.kind not in _BITS:
        raise _Wrong(f"the tensor {tensor.name} has the type {tensor.kind}, which no encoder here uses")
    values = prod(tensor.dims)
    if any(size >= 1 << 63 for size in tensor.dims) or values > _MOST_VALUES:
        raise _Wrong(f"the tensor {tensor.name} claims the shape {tensor.dims}")
    size = (values * _BITS[tensor.kind] + 7) // 8
    if bool(tensor.external) != tensor.outside or (tensor.outside and tensor.raw is not None):
        raise _Wrong(f"the tensor {tensor.name} does not say where its data lie")
    if tensor.outside:
        _check_external(tensor.name, tensor.external, size, folder)
    elif tensor.raw is not None and tensor.raw != size:
        raise _Wrong(f"the tensor {tensor.name} has {tensor.raw} bytes, not the {size} of its shape")


def _check_external(name: str, external: dict[bytes, bytes], size: int, folder: Path) -> None:
    location = external.get(b"location", b"").decode("utf-8", "surrogateescape")
    start, length = (_number(external.get(key, b"0")) for key in (b"offset", b"length"))
    flat = location not in ("", ".") and is_inside(location) and "\0" not in location and "/" not in location
    if not flat or len(location) > 255:
        raise _Wrong(f"the tensor {name} lies in {location[:80]!r}, which is no file beside the graph")
    file = folder / location
    if not file.is_file():
        raise _Wrong(f"the tensor {name} lies in {location}, which is missing")
    if (length or size) != size or start + size > file.stat().st_size:
        raise _Wrong(f"the tensor {name} reaches past the end of {location}, or is not as long as its shape")


def _number(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise _Wrong(f"{text[:40]!r} is no place in a file")
    return int(text)


def _message(value: int | _Part) -> _Part:
    if isinstance(value, int):
        raise _Wrong("a number stands where a message belongs")
    return value
