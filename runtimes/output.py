"""Vectors to a file: `.npy` (float32) or `.jsonl`, written beside its place and renamed into it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from ringkas.errors import TextError
from ringkas.runtimes.vectors import Array


class VectorWriter(Protocol):
    """Takes vectors a chunk at a time, in order."""

    rows: int

    def write(self, vectors: Array) -> None: ...


class _JsonLines:
    def __init__(self, stream: IO[bytes]) -> None:
        self.rows, self._stream = 0, stream

    def write(self, vectors: Array) -> None:
        for vector in vectors:
            self._stream.write(json.dumps([round(float(value), 8) for value in vector]).encode() + b"\n")
        self.rows += len(vectors)


class _Npy:
    """Appends raw rows after a header that is rewritten, at the same length, when the count is known."""

    def __init__(self, stream: IO[bytes], dimension: int) -> None:
        self.rows, self._stream, self._dimension = 0, stream, dimension
        self._header()

    def write(self, vectors: Array) -> None:
        self._stream.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        self.rows += len(vectors)

    def finish(self) -> None:
        self._stream.seek(0)
        self._header()

    def _header(self) -> None:
        # NumPy pads the shape so that a first axis of any length leaves the header as long as it was.
        np.lib.format.write_array_header_1_0(
            self._stream, {"descr": "<f4", "fortran_order": False, "shape": (self.rows, self._dimension)}
        )


@contextmanager
def open_writer(place: Path | None, dimension: int) -> Iterator[VectorWriter]:
    """A writer for `place`, by its ending; None writes JSON lines on stdout.

    Raises:
        TextError: another ending, or the place cannot be written.
    """
    if place is None:
        yield _JsonLines(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    if place.suffix not in (".npy", ".jsonl"):
        raise TextError(f"{place} ends in neither .npy nor .jsonl", fix="The ending says which to write")
    partial = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        with partial.open("wb") as stream:
            if place.suffix == ".jsonl":
                yield _JsonLines(stream)
            else:
                writer = _Npy(stream, dimension)
                yield writer
                writer.finish()
        partial.replace(place)
    except OSError as error:
        raise TextError(
            f"cannot write {place}", why=error.strerror or str(error), fix="Nothing was left half-written"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
