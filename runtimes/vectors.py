"""What is done to vectors after the engine: fewer dimensions, fewer bits. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ringkas.errors import TargetError

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")
_LEVELS = 255

Array = npt.NDArray[Any]


def truncate(
    vectors: npt.NDArray[np.float32], dimensions: int, *, normalize: bool
) -> npt.NDArray[np.float32]:
    """The first `dimensions` of each vector (Matryoshka), scaled to length 1 again if they had it before.

    Raises:
        TargetError: there are not that many.
    """
    check_dimensions(dimensions, vectors.shape[1])
    cut = vectors[:, :dimensions]
    if normalize:
        cut = cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)
    return np.ascontiguousarray(cut, dtype=np.float32)


def check_dimensions(dimensions: int, full: int) -> None:
    """Raises `TargetError` unless `dimensions` of the `full` number can be kept."""
    if not 1 <= dimensions <= full:
        raise TargetError(f"dimensions={dimensions} is not between 1 and the model's {full}")


def check_precision(precision: str, count: int, ranges: Array | None = None) -> None:
    """Raises `TargetError` unless `count` vectors can get `precision`."""
    if precision not in PRECISIONS:
        raise TargetError(f"there is no precision {precision!r}", fix="Choose from: " + ", ".join(PRECISIONS))
    if precision in ("int8", "uint8") and ranges is None and count == 1:
        raise TargetError(
            f"{precision} needs the range of each dimension",
            why="it cannot be read from one vector",
            fix="Pass ranges=(lowest, highest) measured on a corpus",
        )


def quantize(vectors: npt.NDArray[np.float32], precision: str, ranges: Array | None = None) -> Array:
    """Vectors in fewer bits, as sentence-transformers' `quantize_embeddings`.

    int8, uint8: 255 equal steps between the lowest and highest value of each dimension; `ranges`, of shape
    (2, dimension), gives those two, else they are read from `vectors` themselves.
    binary, ubinary: the signs, eight a byte, so that the last axis is an eighth as long; int8 or uint8.

    Raises:
        TargetError: the precision does not exist, the ranges are of other vectors, or there are too few to
            read them from.
    """
    check_precision(precision, len(vectors), ranges)
    if precision == "float32":
        return vectors
    if precision in ("binary", "ubinary"):
        packed = np.packbits(vectors > 0, axis=-1)
        return packed if precision == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)
    kind: type[np.integer[Any]] = np.uint8 if precision == "uint8" else np.int8
    if len(vectors) == 0:
        return np.empty(vectors.shape, dtype=kind)
    if ranges is None:
        ranges = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    if np.shape(ranges) != (2, vectors.shape[1]):
        raise TargetError(
            f"ranges has the shape {np.shape(ranges)}, not (2, {vectors.shape[1]})",
            fix="Pass the lowest and the highest value of each dimension",
        )
    lowest, highest = np.asarray(ranges[0]), np.asarray(ranges[1])
    steps = (highest - lowest) / _LEVELS
    steps = np.where(steps == 0, 1.0, steps)
    levels = np.clip(np.floor((vectors - lowest) / steps), 0, _LEVELS)
    output: Array = (levels if precision == "uint8" else levels - 128).astype(kind)
    return output
