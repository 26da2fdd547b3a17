"""Texts to token ids by a `tokenizer.json` held in memory, never truncated."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, normalizers

from ringkas.export.vocabulary.kinds import kind_of

Item = TypeVar("Item")

# Encodings hold far more than ids: this many texts at a time keep them small.
_CHUNK = 8192
# What a text costs apart from its words is several times what a word costs.
_WORDS_A_TEXT = 64
_SPACE_MARKS = ("▁", "Ġ")


class Segmenter:
    """A tokenizer without truncation or padding; `lower_case` lowers texts first, as the encoder does."""

    def __init__(self, document: Mapping[str, Any], *, lower_case: bool = False) -> None:
        self._document = document
        self._tokenizer = Tokenizer.from_str(json.dumps(document, ensure_ascii=False))
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        if lower_case:
            own, lower = self._tokenizer.normalizer, normalizers.Lowercase()
            self._tokenizer.normalizer = lower if own is None else normalizers.Sequence([lower, own])

    def ids(self, texts: Iterable[str], *, special: bool = False) -> Iterator[list[int]]:
        """The token ids of each text, with the special tokens when `special`."""
        for chunk in chunks(texts, _CHUNK):
            for encoding in self._tokenizer.encode_batch_fast(chunk, add_special_tokens=special):
                yield encoding.ids

    def encodings(self, texts: Iterable[str]) -> Iterator[Encoding]:
        """As `ids`, with the place of each token in its text."""
        for chunk in chunks(texts, _CHUNK):
            yield from self._tokenizer.encode_batch(chunk, add_special_tokens=False)

    @cached_property
    def begins_word(self) -> npt.NDArray[np.bool_]:
        """By token id, whether it spells a space first; all false for a tokenizer that spells none."""
        tokens = kind_of(self._document).tokens(self._document)
        found = np.zeros(self._tokenizer.get_vocab_size(), dtype=np.bool_)
        found[: len(tokens)] = [token.startswith(_SPACE_MARKS) for token in tokens]
        return found


@dataclass(frozen=True)
class TokenRows:
    """Token ids of many words, end to end, with the length of each."""

    ids: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def sums(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The sum of `values`, given by token id, over each word."""
        owner = np.repeat(np.arange(len(self.lengths)), self.lengths)
        return np.bincount(owner, values[self.ids], len(self.lengths)).astype(np.float64)

    def spread(self, weights: npt.NDArray[np.float64], size: int) -> npt.NDArray[np.float64]:
        """For each of `size` tokens, the sum of the `weights`, given by word, of the words that hold it."""
        return np.bincount(self.ids, np.repeat(weights, self.lengths), size).astype(np.float64)


def token_rows(listed: Sequence[Sequence[int]]) -> TokenRows:
    """The ids of many words as two arrays."""
    lengths = np.array([len(ids) for ids in listed], dtype=np.int64)
    return TokenRows(np.fromiter(chain.from_iterable(listed), np.int64, int(lengths.sum())), lengths)


def segment_rows(segmenter: Segmenter, words: Iterable[str]) -> TokenRows:
    """The ids of each word behind a space.

    Many words are one text where that is the same, several times as fast: where the tokens of a text that
    begin a word are as many as its words. Otherwise (some characters become spaces, or nothing), and where
    tokens spell no spaces, each word is a text.
    """
    words = list(words)
    if not words or not segmenter.begins_word.any():
        return _each_alone(segmenter, words)
    texts = list(chunks(words, _WORDS_A_TEXT))
    joined = segmenter.ids(" " + " ".join(text) for text in texts)
    parts = [_parted(segmenter, text, ids) for text, ids in zip(texts, joined, strict=True)]
    return TokenRows(
        np.concatenate([part.ids for part in parts]), np.concatenate([part.lengths for part in parts])
    )


def _parted(segmenter: Segmenter, text: Sequence[str], ids: Sequence[int]) -> TokenRows:
    row = np.array(ids, dtype=np.int64)
    begins = np.flatnonzero(segmenter.begins_word[row])
    # What is not printable may become nothing, which could hide that something else became a space.
    if len(begins) == len(text) and begins[0] == 0 and "".join(text).isprintable():
        return TokenRows(row, np.diff(begins, append=len(row)))
    return _each_alone(segmenter, text)


def _each_alone(segmenter: Segmenter, words: Sequence[str]) -> TokenRows:
    return token_rows(list(segmenter.ids(" " + word for word in words)))


def characters_of(encoding: Encoding, ids: Collection[int]) -> int:
    """How many characters of the text the tokens `ids` stand for. Runs of unknowns merge into one token."""
    places: set[int] = set()
    for id, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
        if id in ids:
            places.update(range(start, end))
    return len(places)


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last perhaps shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
