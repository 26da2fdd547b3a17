"""Which tokens to keep: those whose loss would change the most text.

A text changes when one of its tokens is dropped, so the expected loss of a token is how often it occurs in
each language. `usage.py` says how often that is; `allocation.py` how much each language's loss counts, and
`own_text.py` how much a corpus does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ringkas.errors import TargetError
from ringkas.export.vocabulary.allocation import allocate
from ringkas.export.vocabulary.languages import Language
from ringkas.export.vocabulary.own_text import blended
from ringkas.export.vocabulary.pieces import Mask, Pieces, Weights
from ringkas.export.vocabulary.tables import hanja
from ringkas.export.vocabulary.usage import Usage
from ringkas.texts import base_language

# The share of expected tokens that is kept when neither a number nor a share is asked for.
DEFAULT_COVERAGE = 0.9995

# Single Han characters of the national set that are always kept: for Korean the commonest in Korean text,
# about those of schools and of names; for Japanese the whole set. Others are kept by their use.
_RARE_CHARACTERS: Mapping[str, tuple[str, int]] = {"ko": ("Hani", 1900), "ja": ("Hani", 6355)}


@dataclass(frozen=True)
class Limits:
    """At most so many rows, or at least such a share of expected tokens in every language."""

    max_tokens: int | None = None
    coverage: float | None = None


def must_keep(
    languages: Sequence[Language], pieces: Pieces, always: Iterable[int], *, all_characters: bool
) -> Mask:
    """Tokens that no limit drops.

    The tokenizer's own needs and `always`; single punctuation, symbols, digits that the languages write, and
    ASCII letters; every single character of the languages' scripts, or of any script when `all_characters`.
    """
    kept = np.zeros(len(pieces), dtype=np.bool_)
    kept[list(pieces.indispensable | set(always))] = True
    written = sorted({script for language in languages for script in language.scripts})
    characters = ~pieces.lettered & ~pieces.stray(written) | pieces.ascii | all_characters
    for language in languages:
        scripts = language.scripts
        if base_language(language.tag) in _RARE_CHARACTERS:
            kept |= _rare_characters(language, pieces)
            scripts = tuple(set(scripts) - {_RARE_CHARACTERS[base_language(language.tag)][0]})
        characters = characters | pieces.of_scripts(scripts)
    return kept | (pieces.single & characters)


def check_room(kept: Mask, limits: Limits) -> None:
    """Raises `TargetError` when `max_tokens` has no room for what must be kept."""
    if limits.max_tokens is not None and limits.max_tokens < kept.sum():
        raise TargetError(
            f"--max-tokens {limits.max_tokens} is too few",
            why=f"{kept.sum()} are always kept: specials, digits, punctuation, symbols, "
            "the single characters of the languages' scripts, the prompts",
            fix=f"Allow at least {kept.sum()}",
        )


def choose(
    pieces: Pieces,
    usage: Usage,
    kept: Mask,
    limits: Limits,
    weights: Mapping[str, float] | None = None,
) -> Mask:
    """The tokens to keep: `kept`, then by expected loss, each with the tokens it is built from.

    `weights` say, by language, how many times over its loss counts; one where they are silent.

    Raises:
        TargetError: `max_tokens` has no room for what must be kept.
    """
    kept = _with_ancestors(kept, pieces)
    check_room(kept, limits)
    if limits.max_tokens is None:
        order = _by_cost(usage.total(), kept)
        order = order[: _enough(order, kept, usage, limits.coverage or DEFAULT_COVERAGE)]
        return _filled(order, kept, len(pieces), pieces)
    room = limits.max_tokens
    scale = allocate(usage, kept, room, weights)
    return blended(usage, scale, lambda cost: _filled(_by_cost(cost, kept), kept, room, pieces))


def _by_cost(cost: Weights, kept: Mask) -> npt.NDArray[np.int64]:
    """The tokens beyond `kept` whose loss costs anything, the dearest first."""
    order = np.argsort(-cost, kind="stable")
    return order[(cost[order] > 0) & ~kept[order]]


def _filled(order: npt.NDArray[np.int64], kept: Mask, room: int, pieces: Pieces) -> Mask:
    """`kept` and the first of `order`, each with the tokens it is built from, in `room` rows."""
    kept = kept.copy()
    count = int(kept.sum())
    if not pieces.parents:
        kept[order[: room - count]] = True
        return kept
    for token in order.tolist():
        if kept[token]:
            continue
        family = _missing_ancestors(token, kept, pieces.parents)
        if count + len(family) <= room:
            kept[family] = True
            count += len(family)
        elif count == room:
            break
    return kept


def _rare_characters(language: Language, pieces: Pieces) -> Mask:
    script, count = _RARE_CHARACTERS[base_language(language.tag)]
    eligible = pieces.single & pieces.of_scripts((script,))
    if language.repertoire is not None:
        eligible = eligible & pieces.in_repertoire(language.repertoire)
    listed = hanja() if base_language(language.tag) == "ko" else ""
    order = {character: place for place, character in enumerate(listed)}
    places = np.array([order.get(surface, len(order)) for surface in pieces.surfaces])
    ranked = np.lexsort((-pieces.probability, places, ~eligible))
    kept = np.zeros(len(pieces), dtype=np.bool_)
    kept[ranked[: min(count, int(eligible.sum()))]] = True
    return kept


def _enough(order: npt.NDArray[np.int64], kept: Mask, usage: Usage, coverage: float) -> int:
    """How many of `order` all text needs, in general and like a corpus, for `coverage` of its tokens."""
    counts = []
    for weights in usage.every():
        reached = weights[kept].sum() + np.cumsum(weights[order])
        counts.append(int(np.searchsorted(reached, coverage)) + 1)
    return max(counts)


def _with_ancestors(kept: Mask, pieces: Pieces) -> Mask:
    closed = kept.copy()
    for token in np.flatnonzero(kept).tolist() if pieces.parents else ():
        # The token itself is kept already; what it is built from may not be.
        for parent in pieces.parents.get(token, ()):
            closed[_missing_ancestors(parent, closed, pieces.parents)] = True
    return closed


def _missing_ancestors(token: int, kept: Mask, parents: Mapping[int, Sequence[int]]) -> list[int]:
    """`token` and those it is built from, as far as they are not kept yet."""
    found: dict[int, None] = {}
    pending = [token]
    while pending:
        at = pending.pop()
        if not kept[at] and at not in found:
            found[at] = None
            pending.extend(parents.get(at, ()))
    return list(found)
