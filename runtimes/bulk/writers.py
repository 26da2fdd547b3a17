"""Where vectors go: Parquet with their ids, .npy, JSON lines; each a window at a time, in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from ringkas.errors import TargetError
from ringkas.extras import require
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.vectors import Array

if TYPE_CHECKING:
    import pyarrow as pa

Kind = Literal["parquet", "npy", "jsonl"]
KINDS: tuple[Kind, ...] = ("parquet", "npy", "jsonl")
Precision = Literal["float32", "float16", "int8", "ubinary"]
EMBEDDING, SCALE, ROW = "embedding", "embedding_scale", "row"
METADATA_KEY = b"ringkas"

# Which precision each file can hold: int8 needs a scale beside each vector, JSON has numbers only.
_HOLDS: Mapping[Kind, tuple[Precision, ...]] = {
    "parquet": ("float32", "float16", "int8", "ubinary"),
    "npy": ("float32", "float16", "ubinary"),
    "jsonl": ("float32",),
}
PRECISIONS = _HOLDS["parquet"]


@dataclass(frozen=True)
class Layout:
    """What one file of vectors is.

    Args:
        kind: of the file.
        dimension: of a vector, in numbers; in bits for `ubinary`.
        precision: of its numbers.
        schema: of the columns that are carried along; None for none, then Parquet gets the rows' numbers.
        metadata: said in the file, where it has a place for it.
    """

    kind: Kind
    dimension: int
    precision: Precision = "float32"
    schema: pa.Schema | None = None
    metadata: Mapping[str, Any] | None = None

    def check(self) -> None:
        """Raises `TargetError` for what such a file cannot hold."""
        if self.precision not in _HOLDS[self.kind]:
            raise TargetError(
                f"{self.kind} does not hold {self.precision}",
                fix=f"Choose from {', '.join(_HOLDS[self.kind])}, or write Parquet",
            )
        if self.schema is not None and self.kind == "npy":
            raise TargetError("npy holds vectors and no columns", fix="Write Parquet or .jsonl")
        taken = set(self.schema.names if self.schema is not None else ()) & {EMBEDDING, SCALE}
        if taken:
            raise TargetError(
                f"the column {taken.pop()!r} is named as the vectors are", fix="Rename it, or leave it out"
            )
        if self.kind == "parquet":
            require("bulk", "pyarrow")


class Writer(Protocol):
    """Takes the vectors of windows in order; `finish` completes the file, `stream` stays open."""

    def write(self, vectors: Vectors, rows: Sequence[int], carried: Any) -> None: ...

    def finish(self) -> None: ...


def narrow(vectors: Vectors, precision: Precision) -> tuple[Array, Array | None]:
    """The vectors in a precision, and the scale of each for int8: vector = code * scale, of shape (n,).

    int8 is symmetric with a scale a vector, so that it depends on nothing but the vector and a cosine needs
    no scale at all. `ubinary` packs signs, eight a byte, as sentence-transformers does.
    """
    if precision == "float32":
        return vectors, None
    if precision == "float16":
        return vectors.astype(np.float16), None
    if precision == "ubinary":
        return np.packbits(vectors > 0, axis=-1), None
    largest = np.abs(vectors).max(axis=1, initial=0.0)
    scales = np.where(largest == 0, 1.0, largest / 127).astype(np.float32)
    return np.rint(vectors / scales[:, None]).clip(-127, 127).astype(np.int8), scales


class _Parquet:
    def __init__(self, stream: IO[bytes], layout: Layout) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._layout, self._pa = layout, pa
        number = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8(), "ubinary": pa.uint8()}
        width = -(-layout.dimension // 8) if layout.precision == "ubinary" else layout.dimension
        self._kind = pa.list_(number[layout.precision], width)
        carried = list(layout.schema) if layout.schema is not None else [pa.field(ROW, pa.int64())]
        fields = [*carried, pa.field(EMBEDDING, self._kind, nullable=False)]
        if layout.precision == "int8":
            fields.append(pa.field(SCALE, pa.float32(), nullable=False))
        metadata = {METADATA_KEY: json.dumps(layout.metadata or {}, ensure_ascii=False).encode()}
        self._schema = pa.schema(fields, metadata=metadata)
        # Vectors do not compress: what zstd gains on floats is not worth its time at either end.
        self._writer = pq.ParquetWriter(stream, self._schema, compression="none", use_dictionary=False)

    def write(self, vectors: Vectors, rows: Sequence[int], carried: Any) -> None:
        if not len(vectors):
            return
        pa = self._pa
        numbers, scales = narrow(vectors, self._layout.precision)
        flat = pa.array(np.ascontiguousarray(numbers).reshape(-1))
        columns = list(carried.columns) if carried is not None else [pa.array(rows, type=pa.int64())]
        columns.append(pa.FixedSizeListArray.from_arrays(flat, type=self._kind))
        if scales is not None:
            columns.append(pa.array(scales))
        self._writer.write_table(pa.table(columns, schema=self._schema))

    def finish(self) -> None:
        self._writer.close()


class _JsonLines:
    def __init__(self, stream: IO[bytes], layout: Layout) -> None:
        self._stream = stream

    def write(self, vectors: Vectors, rows: Sequence[int], carried: Any) -> None:
        lists = [[round(float(value), 8) for value in vector] for vector in vectors]
        if carried is None:
            lines = [json.dumps(one) for one in lists]
        else:
            others = carried.to_pylist()
            lines = [
                json.dumps(other | {EMBEDDING: one}, ensure_ascii=False, default=str)
                for other, one in zip(others, lists, strict=True)
            ]
        self._stream.write("".join(line + "\n" for line in lines).encode())

    def finish(self) -> None:
        pass


class _Npy:
    """Appends raw rows after a header that is rewritten, at the same length, when the count is known."""

    def __init__(self, stream: IO[bytes], layout: Layout) -> None:
        self._stream, self._layout, self._rows = stream, layout, 0
        self._kind = np.dtype({"float32": "<f4", "float16": "<f2", "ubinary": "u1"}[layout.precision])
        width = -(-layout.dimension // 8) if layout.precision == "ubinary" else layout.dimension
        self._width = width
        self._header()

    def write(self, vectors: Vectors, rows: Sequence[int], carried: Any) -> None:
        numbers, _ = narrow(vectors, self._layout.precision)
        self._stream.write(np.ascontiguousarray(numbers, dtype=self._kind).tobytes())
        self._rows += len(vectors)

    def finish(self) -> None:
        self._stream.seek(0)
        self._header()

    def _header(self) -> None:
        # NumPy pads the shape so that a first axis of any length leaves the header as long as it was.
        np.lib.format.write_array_header_1_0(
            self._stream,
            {
                "descr": np.lib.format.dtype_to_descr(self._kind),
                "fortran_order": False,
                "shape": (self._rows, self._width),
            },
        )


_WRITERS: Mapping[Kind, Callable[[IO[bytes], Layout], Writer]] = {
    "parquet": _Parquet,
    "npy": _Npy,
    "jsonl": _JsonLines,
}


def open_writer(stream: IO[bytes], layout: Layout) -> Writer:
    """A writer of `layout` on an open binary stream."""
    return _WRITERS[layout.kind](stream, layout)


def kind_by_ending(place: Path) -> Kind | None:
    """The kind of file that a name's ending asks for; None for a folder."""
    return next((kind for kind in KINDS if place.suffix == f".{kind}"), None)
