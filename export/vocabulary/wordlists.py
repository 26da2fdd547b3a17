"""A word list as token frequencies, by the model's own tokenizer.

Lists are in lower case and text is not: a word's frequency is shared among its three cases in proportion to
how likely the tokenizer's own probabilities make each, so that `Iceland` counts for more than `iceland`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from unicodedata import normalize

import numpy as np

from ringkas.export.vocabulary.pieces import Weights
from ringkas.export.vocabulary.segment import Segmenter, TokenRows, chunks, segment_rows, token_rows

_TURKIC, _DOTTED = frozenset({"tr", "az"}), str.maketrans("iı", "İI")
_TONOS = "\N{COMBINING ACUTE ACCENT}"


@dataclass(frozen=True)
class _Habit:
    """How much of running text is in each case before the word is known: after a space, and bare; and the
    share of words that are bare, which follow no space."""

    after_space: tuple[float, float, float]
    bare: tuple[float, float, float]
    bare_share: float


# By whether the tokenizer puts a space before a text's first word. Where it does not, that word is bare, and
# bare words are mostly the capitalised first ones; elsewhere they are the ones behind brackets and hyphens.
_HABITS: Mapping[bool, _Habit] = {
    True: _Habit((0.55, 0.35, 0.1), (0.45, 0.4, 0.15), 0.08),
    False: _Habit((0.8, 0.18, 0.02), (0.2, 0.7, 0.1), 0.08),
}
_UNSPACED_BARE_SHARE = 0.8  # of languages that part no words: nearly every word follows another

# Logarithms of segmentation probabilities are tempered: pieces are less independent than their sum says.
_TEMPER = 0.25

_BARE_FLOOR = 1e-6  # rarer words are not worth segmenting without their space as well
_UPPER_FLOOR = 1e-7  # nor longer ones than an acronym in upper case
_ACRONYM = 5
_WORDS_AT_ONCE = 20_000
# Full stops that tokenizers join to the word before, and how many of the words have one.
_FULL_STOPS, _STOPPED_SHARE = {"ur": "۔"}, 0.06
_BEFORE = "("  # stands before a word without a space and merges with no letter


def count_words(
    words: Mapping[str, float], segmenter: Segmenter, probability: Weights, *, language: str, spaced: bool
) -> Weights:
    """Expected frequency of each token in text made of `words`; sums to one.

    Args:
        words: frequency by word.
        probability: of each piece by itself, by id.
        language: whose capitals the words have.
        spaced: whether the language parts its words by spaces.
    """
    words = _before_stops(words, language)
    logs = np.log(probability + 1e-30)
    habit = _HABITS[next(segmenter.ids(["a"])) == next(segmenter.ids([" a"]))]
    bare = habit.bare_share if spaced else _UNSPACED_BARE_SHARE
    # Where a tokenizer lowers its text every form is the first one.
    forms = 1 if next(segmenter.ids(["A"])) == next(segmenter.ids(["a"])) else None
    behind_space = partial(segment_rows, segmenter)
    behind_bracket = partial(after_bracket, segmenter=segmenter)
    counts = np.zeros(len(probability))
    for chunk in chunks(words.items(), _WORDS_AT_ONCE):
        frequent = [(word, frequency) for word, frequency in chunk if frequency >= _BARE_FLOOR or not spaced]
        counts += (1 - bare) * _count(chunk, language, habit.after_space[:forms], behind_space, logs)
        counts += bare * _count(frequent, language, habit.bare[:forms], behind_bracket, logs)
    shares: Weights = counts / counts.sum()
    return shares


def _count(
    words: Sequence[tuple[str, float]],
    language: str,
    priors: Sequence[float],
    segment: Callable[[Sequence[str]], TokenRows],
    logs: Weights,
) -> Weights:
    """Token frequencies of `words`, each frequency shared among the word's cases."""
    counts = np.zeros(len(logs))
    if not words:
        return counts
    frequency = np.array([value for _, value in words])
    variants: list[tuple[np.ndarray[tuple[int], np.dtype[np.int64]], TokenRows]] = []
    shares = np.full((len(priors), len(words)), -np.inf)
    seen: list[set[str]] = [set() for _ in words]
    written = [cases(word, language) for word, _ in words]
    for case, prior in enumerate(priors):
        changed = [forms[case] for forms in written]
        chosen = [at for at, text in enumerate(changed) if _worth(text, frequency[at], seen[at])]
        for at in chosen:
            seen[at].add(changed[at])
        rows = segment([changed[at] for at in chosen])
        positions = np.array(chosen, dtype=np.int64)
        shares[case, positions] = np.log(prior) + _TEMPER * rows.sums(logs)
        variants.append((positions, rows))
    shares = np.exp(shares - shares.max(axis=0))
    shares *= frequency / shares.sum(axis=0)
    for case, (positions, rows) in enumerate(variants):
        counts += rows.spread(shares[case, positions], len(logs))
    return counts


def cases(word: str, language: str) -> tuple[str, str, str]:
    """A word in lower case, with its first letter capital, and all in capitals, as `language` writes them."""
    if language in _TURKIC:
        first, capitals = word[:1].translate(_DOTTED).upper(), word.translate(_DOTTED).upper()
    elif language == "el":
        first = word[:1].upper()
        capitals = normalize("NFC", normalize("NFD", word.upper()).replace(_TONOS, ""))
    else:
        first, capitals = word[:1].upper(), word.upper()
    if language == "nl" and word.startswith("ij"):
        return word, "IJ" + word[2:], capitals
    return word, first + word[1:], capitals


def spelling_chances(texts: Iterable[str], words: Mapping[str, float]) -> list[float]:
    """Of each text, the chance that words drawn in a row, each as often as in `words`, spell it first.

    For pieces that reach across words (the list has no 的社会, which 経済的社会 holds).
    """
    longest = max(map(len, words), default=0)

    def chance(text: str) -> float:
        reached = [1.0] + [0.0] * len(text)
        for end in range(1, len(text) + 1):
            for start in range(max(0, end - longest), end):
                if reached[start]:
                    reached[end] += reached[start] * words.get(text[start:end], 0.0)
        return reached[-1]

    return [chance(text) for text in texts]


def _before_stops(words: Mapping[str, float], language: str) -> Mapping[str, float]:
    """With a full stop behind its share of the words, where pieces hold both."""
    stop = _FULL_STOPS.get(language)
    if stop is None:
        return words
    apart = {word: (1 - _STOPPED_SHARE) * frequency for word, frequency in words.items()}
    return apart | {word + stop: _STOPPED_SHARE * frequency for word, frequency in words.items()}


def _worth(text: str, frequency: float, seen: set[str]) -> bool:
    if text in seen:
        return False
    return not seen or frequency >= _UPPER_FLOOR or not text.isupper() or len(text) <= _ACRONYM


def after_bracket(texts: Sequence[str], segmenter: Segmenter) -> TokenRows:
    return token_rows(
        [
            [
                id
                for id, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)
                if start >= len(_BEFORE)
            ]
            for encoding in segmenter.encodings(_BEFORE + text for text in texts)
        ]
    )
