"""Texts as nobody writes them: every plane of Unicode, controls, marks without end, specials written out."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from random import Random

_SPECIALS = (
    "<s>",
    "</s>",
    "<pad>",
    "<unk>",
    "<mask>",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[PAD]",
    "[UNK]",
    "##",
    "▁",
    "Ġ",
)
_BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_JOINERS = "\u200b\u200c\u200d\u2060\ufe0e\ufe0f\ufeff\u00ad\u034f"
_CONTROLS = "".join(map(chr, (*range(32), *range(0x7F, 0xA0)))) + "\u2028\u2029\ufffe\uffff\ufffd"
_SPACES = " \t\n\r\u00a0\u1680\u2000\u2007\u2009\u202f\u205f\u3000\u0085"
_MARKS = "".join(chr(code) for code in range(0x300, 0x370)) + "\u0e31\u0e47\u094d\u1039\u17d2\u3099"
_WORDS = (
    "the", "İstanbul", "straße", "ﬁne", "한국어", "각", "東京", "ภาษาไทย", "မြန်မာ", "ខ្មែរ", "தமிழ்",
    "العربية", "עברית", "हिन्दी", "👩‍👩‍👧‍👦", "🇰🇷", "Ａ１", "½", "²", "nº", "x" * 40, "1" * 60,
)  # fmt: skip


def _any(chance: Random, length: int) -> str:
    letters = []
    while len(letters) < length:
        code = chance.randrange(0x110000)
        if not 0xD800 <= code < 0xE000:
            letters.append(chr(code))
    return "".join(letters)


def _of(letters: str) -> Callable[[Random, int], str]:
    return lambda chance, length: "".join(chance.choices(letters, k=length))


def _plane(chance: Random, length: int) -> str:
    """Letters of one block of 128."""
    start = chance.choice((chance.randrange(0x20, 0xD780), chance.randrange(0xE000, 0x30000))) & ~127
    return "".join(chr(chance.randrange(start, start + 128)) for _ in range(length))


def _marks(chance: Random, length: int) -> str:
    """One letter under as many marks as there is room for."""
    return chance.choice("aक각e") + "".join(chance.choices(_MARKS, k=length - 1))


def _private(chance: Random, length: int) -> str:
    start, end = chance.choice(((0xE000, 0xF8FF), (0xF0000, 0xFFFFD), (0x100000, 0x10FFFD)))
    return "".join(chr(chance.randint(start, end)) for _ in range(length))


def _words(chance: Random, length: int) -> str:
    parts: list[str] = []
    here = 0
    while here < length:
        parts.append(chance.choice((*_WORDS, *_SPECIALS)))
        parts.append(chance.choice((" ", "", "  ", chance.choice(_SPACES))))
        here += len(parts[-1]) + len(parts[-2])
    return "".join(parts)[:length]


def _one(chance: Random, length: int) -> str:
    return chance.choice((*"a .0가東\u0301\u200b\u202e", "\U0001f600", "\ufffd")) * length


def _decomposed(chance: Random, length: int) -> str:
    form: str = chance.choice(("NFD", "NFKD"))
    return unicodedata.normalize(form, _words(chance, length))[:length]  # type: ignore[arg-type]


KINDS: Mapping[str, Callable[[Random, int], str]] = {
    "all of Unicode": _any,
    "one block of Unicode": _plane,
    "controls": _of(_CONTROLS + "ab "),
    "spaces": _of(_SPACES + "a"),
    "joiners and selectors": _of(_JOINERS + "ab👩🏽"),
    "right to left": _of("אבגدمי ab1" + _BIDI),
    "combining marks": _marks,
    "private use": _private,
    "specials and words": _words,
    "decomposed": _decomposed,
    "one character repeated": _one,
}
# Of a thousand texts, how many have a length from here to there: some 130 characters on average.
_LENGTHS = {(1, 60): 900, (60, 1_000): 90, (1_000, 10_000): 9, (10_000, 100_000): 1}


def hostile(chance: Random, kind: str) -> str:
    """A text of the kind, of 1 to 100,000 characters; the longer, the rarer."""
    (low, high) = chance.choices(tuple(_LENGTHS), tuple(_LENGTHS.values()))[0]
    return KINDS[kind](chance, int(low * (high / low) ** chance.random()))


def hostile_texts(seed: str, count: int) -> Sequence[str]:
    """So many texts of all kinds in turn: always the same for the same seed."""
    chance, kinds = Random(seed), list(KINDS)
    return [hostile(chance, kinds[number % len(kinds)]) for number in range(count)]
