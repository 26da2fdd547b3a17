"""WordPiece (BERT): at each place of a word, the longest piece that fits.

Removing a piece makes no longer one fit, so a word whose pieces survive keeps them. A word that is unknown
because its pieces lead to a dead end may become known when the piece that led there is dropped: the theorem
speaks of texts without such words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

THEOREM = (
    "WordPiece: the longest piece that fits is taken, so a text without unknown words is segmented as before "
    "if and only if every token of its segmentation is kept."
)
TRUST = 0.0
_ZIPF_OFFSET = 100  # flattens the head: the first ids of a vocabulary are specials and letters


def tokens(document: Mapping[str, Any]) -> list[str]:
    """The pieces by id."""
    vocabulary: dict[str, int] = document["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def surfaces(document: Mapping[str, Any]) -> list[str]:
    """What each piece spells, without the mark of a continuation."""
    mark = _mark(document)
    return [piece.removeprefix(mark) if piece != mark else piece for piece in tokens(document)]


def log_probabilities(document: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Zipf's law over the ids, which run from frequent to rare."""
    return -np.log(np.arange(len(document["model"]["vocab"]), dtype=np.float64) + _ZIPF_OFFSET)


def indispensable(document: Mapping[str, Any]) -> set[int]:
    """The unknown token."""
    model = document["model"]
    return {model["vocab"][model["unk_token"]]} if model.get("unk_token") in model["vocab"] else set()


def parents(document: Mapping[str, Any]) -> dict[int, tuple[int, ...]]:
    """Tokens that a token is built from: none, each piece stands alone."""
    return {}


def rewrite(document: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """The model with the pieces `kept`, ascending old ids."""
    pieces = tokens(document)
    return {**document["model"], "vocab": {pieces[id]: new for new, id in enumerate(kept)}}


def _mark(document: Mapping[str, Any]) -> str:
    return str(document["model"].get("continuing_subword_prefix") or "##")
