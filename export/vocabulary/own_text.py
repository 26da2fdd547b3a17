"""How much a user's own text says, beside what is known of text in general.

Two questions. How often does each token occur in text like the corpus: its counts are few where it matters,
at the rare tokens, so text in general stands behind them (`smoothed`). And how much may that count when both
want the same rows (`blended`): near the cut, rows that serve text in general hardly better serve the corpus
much better, so a little weight costs the one next to nothing and gives the other most of what there is to
gain. The weight is the largest at which no language's expected loss in text in general grows by more than
`TOLERATED`: text of every other kind stays as well served as without a corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ringkas.export.vocabulary.pieces import Mask, Weights
from ringkas.export.vocabulary.usage import Usage

# How much more of text in general may be expected to change: a fiftieth of what changes anyhow. The most at
# which no text that chose nothing lost anything (`benchmarks/vocabulary_corpus.py --tolerated`).
TOLERATED = 0.02
# And a language that loses next to nothing may lose so much of its tokens: a text in ten thousand.
_NEGLIGIBLE = 3e-6

_LEAST_LOG, _MOST_LOG, _STEPS = -12.0, 8.0, 9  # of the weight, in powers of two; steps of bisection


def blended(usage: Usage, scale: Mapping[str, float], fill: Callable[[Weights], Mask]) -> Mask:
    """The tokens that `fill` keeps, by their cost, for text in general and for the user's own.

    `scale` says how many times over the loss of each language counts.
    """
    general = _cost(usage.by_language, scale)
    kept = fill(general)
    if not usage.corpora:
        return kept
    own = _cost(usage.corpora, scale)
    bounds = {tag: (1 + TOLERATED) * lost + _NEGLIGIBLE for tag, lost in usage.lost(kept).items()}

    def bearable(log: float) -> Mask | None:
        tried = fill(general + 2.0**log * own)
        lost = usage.lost(tried)
        return tried if all(lost[tag] <= bound for tag, bound in bounds.items()) else None

    low, high = _LEAST_LOG, _MOST_LOG
    if (found := bearable(high)) is not None:
        return found
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if (found := bearable(middle)) is not None:
            low, kept = middle, found
        else:
            high = middle
    return kept


def _cost(frequencies: Mapping[str, Weights], scale: Mapping[str, float]) -> Weights:
    total: Weights = np.array([scale[tag] for tag in frequencies]) @ np.stack(list(frequencies.values()))
    return total
