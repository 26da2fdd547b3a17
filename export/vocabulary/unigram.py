"""Unigram (XLM-R, T5): the segmentation is the path of the highest sum of scores.

Removing pieces only removes paths, so a text whose best path survives keeps it; ties resolve alike, because
the order of the pieces stays. A path through an unknown character costs ten below the lowest score, hence
that piece is kept, and it is always worse than the one through the piece that was dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

THEOREM = (
    "Unigram: scores, order and the lowest-scored piece are kept, so a text is segmented as before if and "
    "only if every token of its segmentation is kept."
)
TRUST = 0.0  # its scores divide a word's frequency among its cases; more of them did not help XLM-R
_SPACE_MARK = "▁"


def tokens(document: Mapping[str, Any]) -> list[str]:
    """The pieces by id."""
    return [piece for piece, _ in document["model"]["vocab"]]


def surfaces(document: Mapping[str, Any]) -> list[str]:
    """What each piece spells, without the mark of a space."""
    return [piece.replace(_SPACE_MARK, "") for piece in tokens(document)]


def log_probabilities(document: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """The scores, which are natural logarithms of probabilities."""
    return np.array([score for _, score in document["model"]["vocab"]], dtype=np.float64)


def indispensable(document: Mapping[str, Any]) -> set[int]:
    """Ids that are always kept: unknown, the whitespace piece, the lowest score, spelled bytes."""
    pieces, model = tokens(document), document["model"]
    kept = {id for id, piece in enumerate(pieces) if piece == _SPACE_MARK}
    if model.get("byte_fallback"):
        kept |= {id for id, piece in enumerate(pieces) if _is_byte(piece)}
    if model.get("unk_id") is not None:
        kept.add(int(model["unk_id"]))
    # The same choice as the tokenizer's: the first of the lowest.
    kept.add(int(np.argmin(log_probabilities(document))))
    return kept


def parents(document: Mapping[str, Any]) -> dict[int, tuple[int, ...]]:
    """Tokens that a token is built from: none, each piece stands alone."""
    return {}


def rewrite(document: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """The model with the pieces `kept`, ascending old ids, their scores unchanged."""
    model = dict(document["model"])
    model["vocab"] = [model["vocab"][id] for id in kept]
    if model.get("unk_id") is not None:
        model["unk_id"] = list(kept).index(model["unk_id"])
    return model


def _is_byte(piece: str) -> bool:
    return len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">")
