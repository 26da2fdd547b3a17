"""Scores of rankings, with the definitions of trec_eval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

NDCG_AT, MRR_AT, RECALL_AT = 10, 10, 100

_RESAMPLES, _SEED = 1000, 20260101

Floats = npt.NDArray[np.float64]


class RetrievalScores(msgspec.Struct, frozen=True):
    """Means over the queries, or differences of two such means. Each mean is between 0 and 1."""

    ndcg_at_10: float
    mrr_at_10: float
    recall_at_100: float


def score_ranking(ranking: Sequence[str], judged: Mapping[str, int]) -> RetrievalScores:
    """Scores one query's documents, best first, by how relevant each is; what is not judged is not.

    As trec_eval's ndcg_cut.10 (gain linear in the level), recip_rank over the first 10, and recall.100. A
    query without a relevant document scores 0.
    """
    levels = [max(judged.get(document, 0), 0) for document in ranking]
    ideal = sorted((level for level in judged.values() if level > 0), reverse=True)
    if not ideal:
        return RetrievalScores(0.0, 0.0, 0.0)
    first = next((place for place, level in enumerate(levels[:MRR_AT], 1) if level), 0)
    return RetrievalScores(
        ndcg_at_10=_gain(levels[:NDCG_AT]) / _gain(ideal[:NDCG_AT]),
        mrr_at_10=1 / first if first else 0.0,
        recall_at_100=sum(level > 0 for level in levels[:RECALL_AT]) / len(ideal),
    )


def mean_scores(scores: Floats) -> RetrievalScores:
    """The means of per-query scores of shape (queries, 3)."""
    return RetrievalScores(*map(float, scores.mean(axis=0)))


def mean_interval(scores: Floats) -> tuple[RetrievalScores, RetrievalScores]:
    """The 95% interval of `mean_scores`, by resampling the queries (bootstrap, percentiles, fixed seed).

    Given per-query differences of two engines it is the paired interval of theirs.
    """
    rng = np.random.default_rng(_SEED)
    count = len(scores)
    means = np.array([scores[rng.integers(0, count, count)].mean(axis=0) for _ in range(_RESAMPLES)])
    low, high = np.percentile(means, (2.5, 97.5), axis=0)
    return RetrievalScores(*map(float, low)), RetrievalScores(*map(float, high))


def _gain(levels: Sequence[int]) -> float:
    return sum(level / math.log2(place + 1) for place, level in enumerate(levels, 1))
