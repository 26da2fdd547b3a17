"""How likely a language is to spell a piece, by the letters of its words.

A word list ends where words become rare, and a tokenizer's probabilities are of all languages at once. Three
letters in a row tell languages of one script apart: as often as the language's words have them, against how
often the pieces of that script do.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from ringkas.export.vocabulary.pieces import Weights

_LETTERS = 3
# Between how often a word occurs (one) and that it occurs (zero): rare words spell as the language does too.
_POWER = 0.5
# What an unseen sequence counts, and how soon a rare beginning is not believed: shares of the average.
_UNSEEN, _DOUBT = 0.01, 0.05
# A few letters prove little: no piece is thought so much less or more likely than the script at large.
_LEAST, _MOST = -6.0, 3.0


def likelihood_ratios(surfaces: Sequence[str], probability: Weights, words: Mapping[str, float]) -> Weights:
    """How many times as likely the language of `words` has each piece as its script at large.

    Args:
        surfaces: what the pieces of one script spell.
        probability: of each of them, in text of all languages.
        words: frequency by word in lower case.
    """
    spelt = [surface.lower() for surface in surfaces]
    language = _Model(words.items())
    script = _Model(zip(spelt, probability.tolist(), strict=True))
    means = [language.mean(surface) - script.mean(surface) for surface in spelt]
    ratios: Weights = np.exp(np.clip(means, _LEAST, _MOST))
    return ratios


class _Model:
    """The chance of each letter after the two before it."""

    def __init__(self, words: Iterable[tuple[str, float]]) -> None:
        self._whole: dict[str, float] = defaultdict(float)
        self._begun: dict[str, float] = defaultdict(float)
        for word, frequency in words:
            weight = frequency**_POWER
            for letters in _sequences(word):
                self._whole[letters] += weight
                self._begun[letters[:-1]] += weight
        self._doubt = _DOUBT * sum(self._begun.values()) / len(self._begun) if self._begun else 1.0

    def mean(self, word: str) -> float:
        """The mean logarithm of the chances; zero of a word with fewer letters."""
        unseen = _UNSEEN * self._doubt
        logs = [
            math.log(
                (self._whole.get(letters, 0.0) + unseen) / (self._begun.get(letters[:-1], 0.0) + self._doubt)
            )
            for letters in _sequences(word)
        ]
        return sum(logs) / len(logs) if logs else 0.0


def _sequences(word: str) -> Iterator[str]:
    return (word[at : at + _LETTERS] for at in range(len(word) - _LETTERS + 1))
