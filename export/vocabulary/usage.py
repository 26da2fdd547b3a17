"""How often each token is expected in text of a language.

In text in general: from the language's word list, from the table of words as they are written
(`tables.py`), from the names of the world's cities, and, in a script of the language's own, from the
tokenizer's own probabilities. In text of the user's own kind: from a corpus, with the former behind it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from heapq import nlargest
from unicodedata import normalize

import numpy as np

from ringkas import texts as text_sets
from ringkas.export.vocabulary.counting import CorpusCounts, smoothed
from ringkas.export.vocabulary.languages import Language, words_of
from ringkas.export.vocabulary.pieces import Mask, Pieces, Weights
from ringkas.export.vocabulary.segment import Segmenter, chunks, segment_rows
from ringkas.export.vocabulary.spelling import likelihood_ratios
from ringkas.export.vocabulary.tables import NAMES, table
from ringkas.export.vocabulary.wordlists import after_bracket, cases, count_words, spelling_chances
from ringkas.texts import base_language

# How much of a language's frequency the tokenizer's own probabilities say: half where the script is its own
# (a list of morphemes knows nothing of how they join). Where others write it too, they say what a list lacks
# that ends at words of one in a million, and of a longer one they only break ties.
_OWN_SHARE, _SHORT_LIST_SHARE, _LONG_LIST_SHARE = 0.5, 0.005, 1e-4
_SHORT_LIST = 5e-7
# Japanese shares its ideographs with Chinese, and the tokenizer's probabilities of them are those of Chinese
# text, mostly: little is to be had of these, and more where words of the list in a row spell the piece. Its
# table has words unparted, as the list has not.
_JAPANESE_OWN_SHARE, _IDEOGRAPHS_JAPANESE, _JAPANESE_TABLE_SHARE = 0.025, 0.05, 0.3
_SPELT_SHARE = 0.2
# What the tokenizer's probabilities say of pieces that the language's national character set cannot spell.
_OUTSIDE_REPERTOIRE = 0.1

# A table of text of many kinds is as good a witness as the word list, so that a token ranks high only where
# both have it: their weighted geometric mean, above a floor that stands for what neither has seen. A table of
# manuals and messages knows one register, and only adds to the list.
_BROAD_TABLES = frozenset({"en", "es"})
_BROAD_POWER, _NARROW_SHARE, _UNSEEN = 0.65, 0.15, 1e-7
# Running text in any language names places and people elsewhere.
_NAMES_SHARE = 0.0045
# Text in other scripts has names, brands, acronyms and units in Latin letters: mostly those of English text.
_LATIN_SHARE, _LATIN_MIX = 0.003, {"capitals": 0.6, "names": 0.1, "pieces": 0.3}
# Digits and punctuation: by the tokenizer's probabilities, as far as text in most languages writes them so.
_UNLETTERED_SHARE, _UNLETTERED_RARE, _WRITTEN_SHARE = 0.1, 0.01, 0.1
# A table lists words as they stand behind a space. Others follow a bracket, quote or hyphen, and titles are
# in capitals: so many for each that does. Rarer words than the floor are not worth a second look.
_BARE_SHARE, _BARE_CAPITAL, _BARE_UPPER, _UPPER = 0.01, 0.004, 0.0006, 0.0004
_FORMS_FLOOR, _UPPER_LONGEST = 5e-7, 12
# Vietnamese is now and then written with its tones as characters of their own behind the vowels.
_TONES, _TONES_APART = frozenset("\u0300\u0301\u0303\u0309\u0323"), {"vi": 0.003}
_USUAL_LENGTH = 25.0  # tokens of a sentence
_CAPITALS_AT_MOST = 20_000
_WORDS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Usage:
    """Expected frequency of each token by language, each summing to about one.

    `by_language` is of text in general, `corpora` of text like a user's own, of languages that are known
    without; of others the corpus is all there is, and it stands for both. `lengths` are tokens of a typical
    text by language, one where they are silent: with twice as many tokens a text is twice as likely to lose
    one.
    """

    by_language: Mapping[str, Weights]
    lengths: Mapping[str, float] = field(default_factory=dict)
    corpora: Mapping[str, Weights] = field(default_factory=dict)

    def every(self) -> list[Weights]:
        """The frequencies in every kind of text."""
        return [*self.by_language.values(), *self.corpora.values()]

    def total(self) -> Weights:
        """Expected loss of each token over all text."""
        total: Weights = np.sum(self.every(), axis=0)
        return total

    def lost(self, kept: Mask) -> dict[str, float]:
        """The share of tokens that each language is expected to lose in text in general."""
        return {tag: float(weights[~kept].sum()) for tag, weights in self.by_language.items()}

    def changed(self, kept: Mask) -> dict[str, float]:
        """The share of texts of each language that is expected to lose a token, in text in general."""
        lost = self.lost(kept)
        return {tag: 1.0 - math.exp(-self.lengths.get(tag, 1.0) * share) for tag, share in lost.items()}


def expect_usage(
    languages: Sequence[Language],
    pieces: Pieces,
    segmenter: Segmenter,
    corpora: Mapping[str, CorpusCounts] | None = None,
) -> Usage:
    """The frequency of every token in text of each language."""
    expectation, corpora = _Expectation(pieces, segmenter), corpora or {}
    general = {language.tag: expectation.of(language) for language in languages}
    lengths = {language.tag: _length(language, segmenter) for language in languages}
    own = {}
    for language in languages:
        tag, corpus = language.tag, corpora.get(language.tag)
        if corpus is not None:
            like_it = smoothed(corpus.counts, general[tag])
            if language.known:
                own[tag] = like_it
            else:
                general[tag], lengths[tag] = like_it, corpus.tokens / max(1, corpus.texts)
    return Usage(general, lengths, own)


def _length(language: Language, segmenter: Segmenter) -> float:
    """Tokens of a text: of the built-in ones that judge nothing."""
    base = base_language(language.tag)
    texts = text_sets.calibration([base])[base] if base in text_sets.LANGUAGES else ()
    return sum(map(len, segmenter.ids(texts))) / len(texts) if texts else _USUAL_LENGTH


class _Expectation:
    """Expected usage by one tokenizer; what several languages share is counted once."""

    def __init__(self, pieces: Pieces, segmenter: Segmenter) -> None:
        self._pieces, self._segmenter = pieces, segmenter
        self._counted: dict[str, Weights] = {}

    def of(self, language: Language) -> Weights:
        pieces = self._pieces
        script = normalised(pieces.probability * pieces.of_scripts(language.scripts))
        if language.repertoire is not None:
            inside = pieces.in_repertoire(language.repertoire)
            script = normalised(script * np.where(inside, 1.0, _OUTSIDE_REPERTOIRE))
        if "Hira" in language.scripts:
            script = normalised(script * np.where(pieces.of_scripts(("Hani",)), _IDEOGRAPHS_JAPANESE, 1.0))
        written = self._written(language)
        usage = script
        if language.word_list is not None:
            words = self._listed(language, written)
            own = _OWN_SHARE
            if "Hira" in language.scripts:
                own = _JAPANESE_OWN_SHARE
            elif not language.owns_script:
                own, listed = _LONG_LIST_SHARE, words_of(language.word_list)
                if min(listed.values()) > _SHORT_LIST:
                    own, script = _SHORT_LIST_SHARE, self._spelt_alike(script, listed)
            usage = (1 - own) * words + own * script
            share = _TONES_APART.get(base_language(language.tag), 0.0)
            if share:
                usage = (1 - share) * usage + share * self._with_tones_apart(language.word_list)
        elif written.any():
            usage = (1 - _NARROW_SHARE) * script + _NARROW_SHARE * normalised(written * pieces.lettered)
        usage = self._with_own_digits(language, usage)
        usage = usage + self._foreign(language)
        usage = usage + self._unlettered(language, written)
        return normalised(usage)

    def _listed(self, language: Language, written: Weights) -> Weights:
        """The word list and the table as one."""
        pieces = self._pieces
        assert language.word_list is not None
        words = count_words(
            words_of(language.word_list),
            self._segmenter,
            pieces.probability,
            language=base_language(language.tag),
            spaced=language.spaced,
        )
        words = normalised(words * pieces.lettered)
        if written.any():
            lettered = normalised(written * pieces.lettered)
            if base_language(language.tag) in _BROAD_TABLES:
                logs = (1 - _BROAD_POWER) * np.log(words + _UNSEEN) + _BROAD_POWER * np.log(
                    lettered + _UNSEEN
                )
                words = normalised(np.maximum(np.exp(logs) - _UNSEEN, 0.0) * pieces.lettered)
            else:
                share = _JAPANESE_TABLE_SHARE if "Hira" in language.scripts else _NARROW_SHARE
                words = (1 - share) * words + share * lettered
        if "Hira" in language.scripts:
            words = (1 - _SPELT_SHARE) * words + _SPELT_SHARE * self._spelt(language, language.word_list)
        if not language.owns_script:
            tempered = words ** (1 - pieces.trust) * pieces.probability**pieces.trust
            words = normalised(in_order_of(words, tempered))
        return words

    def _spelt(self, language: Language, word_list: str) -> Weights:
        """Pieces that words in a row spell, by the geometric mean of that chance and the tokenizer's own."""
        pieces, spelt = self._pieces, dict[str, float]()
        mask = pieces.of_scripts(language.scripts)
        if language.repertoire is not None:
            mask = mask & pieces.in_repertoire(language.repertoire)
        ids = np.flatnonzero(mask)
        texts = [pieces.surfaces[id] for id in ids]
        chances = spelling_chances(texts, words_of(word_list))
        for text, chance in zip(texts, np.sqrt(pieces.probability[ids] * chances), strict=True):
            spelt[text] = max(spelt.get(text, 0.0), float(chance))
        return normalised(count_written(spelt, self._segmenter, len(pieces), bare=True))

    def _spelt_alike(self, script: Weights, listed: Mapping[str, float]) -> Weights:
        """Probabilities of a script's pieces, those first that are spelt as the words of the list are."""
        ids = np.flatnonzero(script)
        alike = script.copy()
        surfaces = [self._pieces.surfaces[id] for id in ids]
        alike[ids] *= likelihood_ratios(surfaces, script[ids], listed)
        return normalised(alike)

    def _with_tones_apart(self, word_list: str) -> Weights:
        """The word list with each tone mark behind its vowel."""
        words: dict[str, float] = {}
        for word, frequency in words_of(word_list).items():
            apart = tones_apart(word)
            words[apart] = words.get(apart, 0.0) + frequency
        return normalised(count_written(words, self._segmenter, len(self._pieces)))

    def _with_own_digits(self, language: Language, usage: Weights) -> Weights:
        """With numbers in the digits of the language's own script, as probable as the tokenizer has them."""
        pieces = self._pieces
        digits = pieces.probability * pieces.unlettered_of(language.scripts)
        letters = (pieces.probability * pieces.of_scripts(language.scripts)).sum()
        share = digits.sum() / max(digits.sum() + letters, 1e-30)
        mixed: Weights = (1 - share) * usage + share * normalised(digits)
        return mixed

    def _foreign(self, language: Language) -> Weights:
        """Names and words of elsewhere in Latin letters."""
        pieces = self._pieces
        names = self._once(NAMES, lambda: table(NAMES))
        if "Latn" in language.scripts:
            return _NAMES_SHARE * names
        capitals = self._once("capitals", _capitals)
        parts = {
            "capitals": capitals,
            "names": names,
            "pieces": normalised(pieces.probability * pieces.of_scripts(("Latn",))),
        }
        total: Weights = np.sum([share * parts[name] for name, share in _LATIN_MIX.items()], axis=0)
        return _LATIN_SHARE * total

    def _unlettered(self, language: Language, written: Weights) -> Weights:
        pieces = self._pieces
        usual = np.where(pieces.usual(language.scripts), 1.0, _UNLETTERED_RARE)
        likely = normalised(pieces.probability * ~pieces.lettered * usual)
        share: Weights = _UNLETTERED_SHARE * likely + _WRITTEN_SHARE * (written * ~pieces.lettered)
        return share

    def _written(self, language: Language) -> Weights:
        name = base_language(language.tag)
        if not language.spaced:
            return normalised(count_written(table(name), self._segmenter, len(self._pieces), bare=True))
        return self._in_every_form(table(name), name)

    def _once(self, name: str, words: Callable[[], Mapping[str, float]]) -> Weights:
        """Lettered tokens of `words` behind spaces."""
        if name not in self._counted:
            counts = count_written(words(), self._segmenter, len(self._pieces))
            self._counted[name] = normalised(counts * self._pieces.lettered)
        return self._counted[name]

    def _in_every_form(self, words: Mapping[str, float], language: str) -> Weights:
        """As `count_written`, and of the frequent words the forms that no table lists."""
        spaced, bare = defaultdict[str, float](float, words), defaultdict[str, float](float)
        for word, share in words.items():
            if share >= _FORMS_FLOOR and word[0].isalpha():
                _, capital, upper = cases(word, language)
                bare[word] += _BARE_SHARE * share
                bare[capital] += _BARE_CAPITAL * share
                if len(word) <= _UPPER_LONGEST:
                    bare[upper] += _BARE_UPPER * share
                    spaced[upper] += _UPPER * share
        segmenter, size = self._segmenter, len(self._pieces)
        counts = count_written(spaced, segmenter, size) + count_written(bare, segmenter, size, bare=True)
        return normalised(counts)


@cache
def _capitals() -> Mapping[str, float]:
    """The most frequent English words with a capital: rarer ones hardly show in other scripts' text."""
    written = [(frequency, word) for word, frequency in table("en").items() if word != word.lower()]
    return {word: frequency for frequency, word in nlargest(_CAPITALS_AT_MOST, written)}


def tones_apart(text: str) -> str:
    """`text` with the marks of Vietnamese tones as characters of their own, the vowels' own marks left on."""
    written = []
    for character in text:
        parts = normalize("NFD", character)
        vowel = normalize("NFC", "".join(part for part in parts if part not in _TONES))
        written += [vowel, *(part for part in parts if part in _TONES)]
    return "".join(written)


def count_written(
    words: Mapping[str, float], segmenter: Segmenter, size: int, *, bare: bool = False
) -> Weights:
    """The expected count of each of `size` tokens in text of `words`, as they are written.

    Each behind a space, or `bare`: where words follow one another without, or stand behind a bracket.
    """
    counts: Weights = np.zeros(size)
    for chunk in chunks(words.items(), _WORDS_AT_ONCE):
        listed = [word for word, _ in chunk]
        rows = after_bracket(listed, segmenter) if bare else segment_rows(segmenter, listed)
        counts += rows.spread(np.array([frequency for _, frequency in chunk]), size)
    return counts


def in_order_of(weights: Weights, ranking: Weights) -> Weights:
    """The values of `weights`, the highest where `ranking` is highest.

    A tempered frequency ranks tokens better and says less of how often they occur: its tail is too heavy, and
    the language would be given the rows of others for a loss that it does not take.
    """
    ordered: Weights = np.empty_like(weights)
    ordered[np.argsort(-ranking, kind="stable")] = np.sort(weights)[::-1]
    return ordered


def normalised(weights: Weights) -> Weights:
    """`weights` so that they sum to one, or all zero."""
    total = weights.sum()
    return weights / total if total > 0 else weights
