"""The nearest texts that stay nearest: one rule for every report that counts them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NEIGHBOURS = 10

# Similarities of the reference closer than this are a tie, whose order says nothing.
_TIE = 1e-5

Floats = npt.NDArray[np.float64]


def similarities(asked: npt.ArrayLike, found: npt.ArrayLike) -> Floats:
    """Cosines in float64, (asked, found), of two arrays of vectors, (n, d) each; zero with a zero vector."""
    x, y = (np.asarray(one, dtype=np.float64) for one in (asked, found))
    x, y = (one / np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-12) for one in (x, y))
    return np.asarray(x @ y.T)


def share_kept(reference: Floats, candidate: Floats, count: int = NEIGHBOURS) -> float:
    """Of each row's `count` nearest by `candidate`, the share that are so by `reference`; means over rows.

    Both are similarities, (texts, texts to find). A neighbour is kept when the reference puts it within a
    tie of its own last one.
    """
    first = reference.shape[1] - count
    last = np.partition(reference, first, axis=1)[:, first, None]
    nearest = np.argpartition(candidate, first, axis=1)[:, first:]
    return float((np.take_along_axis(reference, nearest, axis=1) >= last - _TIE).mean())
