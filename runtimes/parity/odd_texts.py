"""The texts that bring faults of reading out: each kind, and the setting that most likely explains it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

_LETTERS = "Crème brûlée, Ångström, naïve, Điện Biên, ÄÖÜ"


@dataclass(frozen=True)
class OddText:
    """One text.

    Args:
        kind: what is odd about it, as a message calls it.
        text: the text.
        setting: where its ids differ from the library's, what is most likely read otherwise.
        by_class: the tokenizer class that a folder declares may make other ids of it than `tokenizer.json`,
            which is the truth: that is recorded, not refused.
    """

    kind: str
    text: str
    setting: str
    by_class: bool = False


# In the shape of words, so that no limit of positions is reached by any tokenizer before it should be.
_LONG_WORDS = 64


def odd_texts(max_length: int, specials: Iterable[str]) -> list[OddText]:
    """The odd texts for a checkpoint of `max_length` tokens whose special tokens are written `specials`."""
    numbers = " ".join(str(number) for number in range(max_length + _LONG_WORDS))
    return [
        OddText("a short text", "a short text, like any other.", "the tokenizer"),
        OddText("upper case", "HELLO World, İstanbul, STRASSE, Straße, ΑΒΓ", "do_lower_case"),
        OddText("accents", _LETTERS, "strip_accents"),
        OddText(
            "decomposed accents", unicodedata.normalize("NFD", _LETTERS + " 한국어 각각"), "the normalizer"
        ),
        OddText("Chinese characters", "我们在北京吃烤鸭, 東京タワー 2024年", "tokenize_chinese_chars"),
        OddText("control characters", "tab\tand\nline\u200bzero\u00a0width", "clean_text", by_class=True),
        OddText(
            "spaces at both ends", "  two  spaces, and more at the end   ", "tokenizer_class", by_class=True
        ),
        OddText(
            "special tokens written out",
            "before " + " ".join(specials) + " after, " + "".join(specials),
            "the added tokens",
            by_class=True,
        ),
        OddText("the empty text", "", "add_bos_token, add_eos_token or the post-processor"),
        OddText("a text over the limit", numbers, "max_seq_length, model_max_length or truncation_side"),
    ]
