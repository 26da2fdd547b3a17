"""The nearest texts that stay nearest: one rule for every report that counts them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ringkas.runtimes.engine import Vectors

NEIGHBOURS = 10

# Similarities of the reference closer than this are a tie, whose order says nothing.
_TIE = 1e-5

_LARGEST = float(np.finfo(np.float16).max)

Floats = npt.NDArray[np.float64]


def rounded_alike(candidate: Vectors, reference: Vectors) -> Vectors:
    """The candidate in float16 where the reference was stored so: both (n, d), and so is what is returned.

    That rounding moves a similarity by more than a tie: an artifact that computes what its reference did
    would else seem to change the order of near neighbours, of which some models have many.
    """

    def rounded(vectors: Vectors) -> Vectors:
        return np.clip(vectors, -_LARGEST, _LARGEST).astype(np.float16).astype(np.float32)

    return rounded(candidate) if np.array_equal(rounded(reference), reference) else candidate


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
