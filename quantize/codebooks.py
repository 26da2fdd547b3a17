"""Codebooks: a byte that stands for several values at once, the nearest of 256 that fit them all.

Values that are stored one by one each need bits of their own; a few together need fewer for the same error,
since the book's entries lie where the values do (product quantisation: Jégou et al., 2011).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

ENTRIES = 256
# Lloyd's algorithm comes no nearer with more of either: the last rounds gain less than a thousandth.
_ROUNDS, _MOST_POINTS = 16, 16_384
_AT_ONCE = 4096  # points whose distances to all entries a core's cache holds
_SEED = 3

Array = npt.NDArray[np.float32]


def fit(points: Array, weights: Array) -> Array:
    """The entries of a codebook for `points` (n, values), float32 (256, values): weighted k-means.

    `weights` (n, values) says what an error of each value costs; one row may serve all points. Equal
    arguments give an equal book. With fewer points than entries the last entries repeat earlier ones.
    """
    weights = np.broadcast_to(weights, points.shape)
    generator = np.random.default_rng(_SEED)
    if len(points) > _MOST_POINTS:
        sample = np.sort(generator.choice(len(points), _MOST_POINTS, replace=False))
        points, weights = points[sample], weights[sample]
    book = points[generator.permutation(len(points))[np.arange(ENTRIES) % len(points)]].copy()
    for _ in range(_ROUNDS):
        codes, losses = _nearest(points, weights, book)
        for value in range(points.shape[1]):
            cost = np.bincount(codes, weights[:, value], ENTRIES)
            total = np.bincount(codes, weights[:, value] * points[:, value], ENTRIES)
            book[:, value] = np.where(cost > 0, total / np.maximum(cost, 1e-30), book[:, value])
        # An entry that nothing is near takes the place of what is worst served.
        idle = np.flatnonzero(np.bincount(codes, minlength=ENTRIES) == 0)[: len(points)]
        book[idle] = points[np.argsort(-losses, kind="stable")[: len(idle)]]
    return book


def nearest(points: Array, weights: Array, book: Array) -> npt.NDArray[np.uint8]:
    """The entry of `book` that is nearest to each point, by the same weights: uint8 (n,)."""
    return _nearest(points, np.broadcast_to(weights, points.shape), book)[0].astype(np.uint8)


def _nearest(points: Array, weights: Array, book: Array) -> tuple[npt.NDArray[np.intp], Array]:
    """Codes, and what each point loses: sum of w (x - c)^2, less what all entries have in common."""
    seen = np.concatenate([-2 * book, book * book], axis=1).T.astype(np.float32)
    codes = np.empty(len(points), np.intp)
    losses = np.empty(len(points), np.float32)
    for start in range(0, len(points), _AT_ONCE):
        own = slice(start, start + _AT_ONCE)
        weighted = weights[own] * points[own]
        distances = np.concatenate([weighted, weights[own]], axis=1) @ seen
        codes[own] = distances.argmin(axis=1)
        least = np.take_along_axis(distances, codes[own, None], axis=1)[:, 0]
        losses[own] = least + (weighted * points[own]).sum(axis=1)
    return codes, losses
