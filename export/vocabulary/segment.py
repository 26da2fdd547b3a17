"""Texts to token ids by a `tokenizer.json` held in memory, never truncated."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from tokenizers import Encoding, Tokenizer, normalizers

Item = TypeVar("Item")

# Encodings hold far more than ids: this many texts at a time keep them small.
_CHUNK = 8192


class Segmenter:
    """A tokenizer without truncation or padding; `lower_case` lowers texts first, as the encoder does."""

    def __init__(self, document: Mapping[str, Any], *, lower_case: bool = False) -> None:
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

    def token_id(self, token: str) -> int | None:
        """The id of a token as the file spells it."""
        found: int | None = self._tokenizer.token_to_id(token)
        return found


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
