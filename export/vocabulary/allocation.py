"""How much each language's loss counts when several share the rows.

Adding up losses lets the language with the longest tail pay for all. Here the sum of a power of each
language's expected share of changed texts is least, so that the worst is never far from the others. A share
is the loss of tokens times the tokens of a text, while it is small. By weights, a language's share counts as
many times over.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ringkas.errors import TargetError
from ringkas.export.vocabulary.pieces import Mask
from ringkas.export.vocabulary.usage import Usage

_POWER = 4.0  # of the loss; one would be the plain sum, a very large one the worst language alone
_ROUNDS, _STEP = 40, 0.1
_LEAST = 1e-9


def check_weights(weights: Mapping[str, float], languages: tuple[str, ...]) -> None:
    """Raises `TargetError` for a weight of no chosen language, or one that is not positive and finite."""
    for tag, weight in weights.items():
        if tag not in languages:
            raise TargetError(
                f"there is a weight for {tag!r}, which is not among the languages",
                fix=f"Add it: --languages {','.join([*languages, tag])}",
            )
        if not 0 < weight < float("inf"):
            raise TargetError(f"the weight {weight} of {tag!r} is not a positive number")


def allocate(
    usage: Usage, kept: Mask, room: int, weights: Mapping[str, float] | None = None
) -> dict[str, float]:
    """How many times over a token counts by its frequency in each language, in text in general, when `room`
    rows hold `kept` and the dearest of the others.

    The gradient of the sum of powers: each language's frequencies times its own loss to the power less one.
    Small steps towards it find the fixed point; the best of them counts, the plain sum among them.
    """
    by_language = usage.by_language
    weight = np.array([(weights or {}).get(tag, 1.0) * usage.lengths.get(tag, 1.0) for tag in by_language])
    frequencies = np.stack(list(by_language.values()))
    free = np.flatnonzero(~kept)
    more = room - int(kept.sum())
    scale = best = weight / weight.max()
    if len(by_language) > 1 and 0 < more < len(free):
        inside = frequencies[:, free]
        least = np.inf
        for _ in range(_ROUNDS):
            cost = scale @ inside
            dropped = np.argpartition(-cost, more)[more:]
            loss = weight * inside[:, dropped].sum(axis=1) + _LEAST
            if (loss**_POWER).sum() < least:
                least, best = (loss**_POWER).sum(), scale
            wanted = weight * (loss / loss.max()) ** (_POWER - 1)
            scale = scale ** (1 - _STEP) * (wanted / wanted.max()) ** _STEP
            scale = scale / scale.max()
    return dict(zip(by_language, best.tolist(), strict=True))
