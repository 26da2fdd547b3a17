"""Exact search, in blocks: memory grows with the queries, not with the documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ringkas.runtimes.engine import Vectors

# Queries that are compared with a block of documents at a time.
_QUERY_BLOCK = 1024

Floats = npt.NDArray[np.float64]


def _dot(queries: Floats, documents: Floats) -> Floats:
    return queries @ documents.T


def _euclidean(queries: Floats, documents: Floats) -> Floats:
    squares = (queries**2).sum(axis=1)[:, None] + (documents**2).sum(axis=1)
    distances: Floats = np.sqrt(np.maximum(squares - 2.0 * _dot(queries, documents), 0.0))
    return -distances


def _manhattan(queries: Floats, documents: Floats) -> Floats:
    return -np.stack([np.abs(documents - query).sum(axis=1) for query in queries])


# Each takes (n, dimension) and (m, dimension) to (n, m); the greater, the more similar. By
# `similarity_fn_name`, as in sentence-transformers; the cosine is the dot product of unit vectors.
SCORES: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "cosine": _dot,
    "dot": _dot,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
}


def pairwise(first: Vectors, second: Vectors, similarity: str) -> Floats:
    """The similarity of each row of `first` with the same row of `second`: shape (n,), as in `search`."""
    pairs = zip(first.astype(np.float64)[:, None], second.astype(np.float64)[:, None], strict=True)
    return np.array([SCORES[similarity](one, other)[0, 0] for one, other in pairs])


def search(
    queries: Vectors,
    blocks: Iterable[Vectors],
    document_ids: Sequence[str],
    depth: int,
    left_out: Sequence[str | None],
    similarity: str = "cosine",
) -> list[list[str]]:
    """The ids of the `depth` most similar documents, best first, for each query.

    Equal scores are put in trec_eval's order, the greater id first, so that a ranking depends on the vectors
    alone. For that similarities are summed in float64 and then rounded to float32, in which equal documents
    are equal whatever block they fall in.

    Args:
        queries: shape (n, dimension).
        blocks: the documents' vectors, in the order of `document_ids`.
        left_out: for each query the id of a document that it may not find, or None.
        similarity: a key of `SCORES`; for a cosine the vectors must have length one.
    """
    row_of = {key: row for row, key in enumerate(document_ids)}
    order = np.empty(len(document_ids), dtype=np.int64)
    order[[row_of[key] for key in sorted(document_ids, reverse=True)]] = np.arange(len(order))
    hidden = np.array([-1 if key is None else row_of.get(key, -1) for key in left_out])
    # The best so far: rows of documents and their scores.
    best = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in range(len(queries))]
    start = 0
    for block in blocks:
        wide = np.asarray(block, dtype=np.float64)
        for first in range(0, len(queries), _QUERY_BLOCK):
            part = queries[first : first + _QUERY_BLOCK].astype(np.float64)
            scores = SCORES[similarity](part, wide).astype(np.float32)
            for query, row in enumerate(scores, first):
                if start <= hidden[query] < start + len(row):
                    row[hidden[query] - start] = -np.inf
                best[query] = _merge(best[query], row, start, order, depth)
        start += len(block)
    if start != len(document_ids):
        raise ValueError(f"{start} vectors for {len(document_ids)} documents")
    return [[document_ids[row] for row in rows.tolist()] for rows, _ in best]


def _merge(
    best: tuple[npt.NDArray[np.int64], Vectors],
    scores: Vectors,
    start: int,
    order: npt.NDArray[np.int64],
    depth: int,
) -> tuple[npt.NDArray[np.int64], Vectors]:
    """The best `depth` of those so far and of a block's `scores`, whose first document is row `start`."""
    least = np.partition(scores, len(scores) - depth)[len(scores) - depth] if len(scores) > depth else -np.inf
    if len(best[1]) == depth:
        least = max(least, best[1][-1])
    # Everything that ties with the last place stays a candidate; -inf is what the query may not find.
    found = np.flatnonzero((scores >= least) & (scores > -np.inf))
    rows = np.concatenate([best[0], found + start])
    values = np.concatenate([best[1], scores[found]])
    chosen = np.lexsort((order[rows], -values))[:depth]
    return rows[chosen], values[chosen]
