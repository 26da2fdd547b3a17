"""Frequency tables that travel with the tool: words as text writes them, capitals and inflections included.

`benchmarks/vocabulary_tables.py` builds them from packages. A table is an xz file of UTF-8 lines, sorted by
word: how many characters are shared with the word before (as one letter), the rest of the word, a tab, and
the base-two logarithm of its frequency, in quarters, below the most frequent word's. They spell words, not
tokens, so every kind of tokenizer gains.
"""

from __future__ import annotations

import lzma
import math
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files

NAMES = "names"  # of cities of the world, in Latin letters

_STEPS = 4  # to a factor of two
_MOST_SHARED = 25
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]


@cache
def tables() -> frozenset[str]:
    """The languages (and `NAMES`) that have a table."""
    folder = files("ringkas") / "data" / "frequencies"
    return frozenset(file.name.removesuffix(".xz") for file in folder.iterdir() if file.name.endswith(".xz"))


@cache
def table(name: str) -> Mapping[str, float]:
    """The words of a table and their frequencies, which sum to one; none for a language without a table."""
    if name not in tables():
        return {}
    data = (files("ringkas") / "data" / "frequencies" / f"{name}.xz").read_bytes()
    found = dict(_unpacked(data))
    total = sum(found.values())
    return {word: frequency / total for word, frequency in found.items()}


@cache
def hanja() -> str:
    """The Chinese characters that Korean text holds, the commonest first."""
    return (files("ringkas") / "data" / "frequencies" / "hanja.txt").read_text(encoding="utf-8").strip()


def pack(words: Mapping[str, float]) -> bytes:
    """`words` (any positive counts) as a table's bytes; the same words always give the same bytes."""
    most, before = max(words.values()), ""
    lines: list[str] = []
    for word in sorted(words):
        if "\t" in word or "\n" in word:
            raise ValueError(f"{word!r} holds a tab or a line feed")
        shared = 0
        while shared < min(len(word), len(before), _MOST_SHARED) and word[shared] == before[shared]:
            shared += 1
        level = round(_STEPS * math.log2(most / words[word]))
        lines.append(f"{chr(ord('a') + shared)}{word[shared:]}\t{level}")
        before = word
    return lzma.compress("\n".join(lines).encode("utf-8"), format=lzma.FORMAT_XZ, filters=_FILTERS)


def _unpacked(data: bytes) -> Iterator[tuple[str, float]]:
    before = ""
    for line in lzma.decompress(data).decode("utf-8").split("\n"):
        rest, level = line[1:].split("\t")
        before = before[: ord(line[0]) - ord("a")] + rest
        yield before, 2.0 ** (-int(level) / _STEPS)
