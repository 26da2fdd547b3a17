"""Exact search, in blocks: memory grows with the queries, not with the documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ringkas.runtimes.engine import Vectors

# Queries that are compared with a block of documents at a time.
_QUERY_BLOCK = 1024

Floats = npt.NDArray[np.float64]


def search(
    queries: Vectors,
    blocks: Iterable[Vectors],
    document_ids: Sequence[str],
    depth: int,
    left_out: Sequence[str | None],
) -> list[list[str]]:
    """The ids of the `depth` documents with the highest dot products, best first, for each query.

    Equal scores are put in trec_eval's order, the greater id first, so that a ranking depends on the vectors
    alone. For that the products are summed in float64 and then rounded to float32, in which equal documents
    are equal whatever block they fall in.

    Args:
        queries: shape (n, dimension).
        blocks: the documents' vectors, in the order of `document_ids`.
        left_out: for each query the id of a document that it may not find, or None.
    """
    row_of = {key: row for row, key in enumerate(document_ids)}
    order = np.empty(len(document_ids), dtype=np.int64)
    order[[row_of[key] for key in sorted(document_ids, reverse=True)]] = np.arange(len(order))
    hidden = np.array([-1 if key is None else row_of.get(key, -1) for key in left_out])
    # The best so far: rows of documents and their scores.
    best = [(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)) for _ in range(len(queries))]
    start = 0
    for block in blocks:
        wide = np.asarray(block, dtype=np.float64).T
        for first in range(0, len(queries), _QUERY_BLOCK):
            scores = (queries[first : first + _QUERY_BLOCK].astype(np.float64) @ wide).astype(np.float32)
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
