"""Pooling in NumPy, for checkpoints that leave the prompt's tokens out of it.

Every graph pools inside; this is only for what a graph with two inputs cannot know. The tests hold it equal
to the reference's pooling, mode by mode.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ringkas.runtimes.engine import Vectors
from ringkas.spec import EncodingSpec
from ringkas.tokens import Ids


def pool(hidden: Vectors, mask: Ids, spec: EncodingSpec) -> Vectors:
    """(batch, sequence, hidden) and a mask (batch, sequence) to float32 (batch, dimension)."""
    vectors = np.concatenate([_POOLERS[mode](hidden, mask) for mode in spec.pooling.modes], axis=-1)
    if spec.normalize:
        vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
    return np.asarray(vectors, dtype=np.float32)


def _sum(hidden: Vectors, weights: Ids) -> Vectors:
    return np.asarray(np.einsum("bsh,bs->bh", hidden, weights.astype(np.float32)), dtype=np.float32)


def _count(weights: Ids) -> Vectors:
    counts = np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    return np.asarray(counts, dtype=np.float32)


def _mean(hidden: Vectors, mask: Ids) -> Vectors:
    return _divided(_sum(hidden, mask), _count(mask))


def _mean_sqrt_length(hidden: Vectors, mask: Ids) -> Vectors:
    return _divided(_sum(hidden, mask), np.sqrt(_count(mask)))


def _weighted_mean(hidden: Vectors, mask: Ids) -> Vectors:
    weights = mask * np.arange(1, mask.shape[1] + 1)
    return _divided(_sum(hidden, weights), _count(weights))


def _cls(hidden: Vectors, mask: Ids) -> Vectors:
    return _token_at(hidden, mask.argmax(axis=1))


def _last_token(hidden: Vectors, mask: Ids) -> Vectors:
    return _token_at(hidden, (mask * np.arange(mask.shape[1])).argmax(axis=1))


def _max(hidden: Vectors, mask: Ids) -> Vectors:
    return np.asarray(np.where(mask[..., None] == 0, -np.inf, hidden).max(axis=1), dtype=np.float32)


def _token_at(hidden: Vectors, index: npt.NDArray[np.intp]) -> Vectors:
    return np.asarray(hidden[np.arange(len(hidden)), index], dtype=np.float32)


def _divided(vectors: Vectors, counts: Vectors) -> Vectors:
    return np.asarray(vectors / counts, dtype=np.float32)


_POOLERS: dict[str, Callable[[Vectors, Ids], Vectors]] = {
    "cls": _cls,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_length,
    "weightedmean": _weighted_mean,
    "lasttoken": _last_token,
}
