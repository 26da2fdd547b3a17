"""The built-in text sets, what a text is, and the split of a corpus into parts that never meet.

`probe` judges parity and `calibration` chooses ranges and rounding: they share no text, so nothing is ever
judged by what it was tuned on. Each is one file a language in `data/`, one text a line; `und` holds what
belongs to no language (emoji, digits, mixed scripts, decomposed accents, URLs, code).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

from ringkas.errors import TextError

LANGUAGES = ("en", "zh", "ko", "th", "vi", "id", "ms", "fil", "my", "km", "lo", "ta", "ja")
UNDETERMINED = "und"

# The share of a user's corpus, in hundredths by hash, that chooses tokens, sets ranges, and judges.
SELECT_PERCENT, CALIBRATE_PERCENT = 80, 10

TextsByLanguage = dict[str, tuple[str, ...]]


def probe(languages: Iterable[str] = ()) -> TextsByLanguage:
    """The parity texts of `languages` (all when none are named) and of no language, by language."""
    return _text_set("probe", tuple(languages))


def calibration(languages: Iterable[str] = ()) -> TextsByLanguage:
    """The texts that set activation ranges and rounding; disjoint from `probe`."""
    return _text_set("calibration", tuple(languages))


def base_language(tag: str) -> str:
    """The language of a BCP-47 tag, without script or region: `en` for `en-US`."""
    return tag.split("-", maxsplit=1)[0].lower()


@cache
def _text_set(name: str, languages: tuple[str, ...]) -> TextsByLanguage:
    wanted = {base_language(language) for language in languages}
    chosen = [language for language in LANGUAGES if not languages or language in wanted]
    folder = files("ringkas") / "data" / name
    return {
        language: tuple((folder / f"{language}.txt").read_text(encoding="utf-8").splitlines())
        for language in [*chosen, UNDETERMINED]
    }


def check_texts(texts: Iterable[str]) -> list[str]:
    """`texts` as a list.

    Raises:
        TextError: one, named by its position, is not a string or cannot be written as UTF-8.
    """
    if not isinstance(texts, Iterable):
        raise TextError(
            f"{type(texts).__name__} is not a list of texts", fix="Pass a string or a list of them"
        )
    texts = list(texts)
    for position, text in enumerate(texts):
        check_text(text, position)
    return texts


def check_text(text: object, position: int) -> None:
    """Raises `TextError`, with its position, unless `text` is a string that can be written as UTF-8."""
    if not isinstance(text, str):
        raise TextError(
            f"text {position} is {type(text).__name__}, not a string",
            fix="Pass strings; an empty string stands for a missing text",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            f"text {position} holds a lone surrogate (U+{ord(text[error.start]):04X}) "
            f"at character {error.start}",
            why="it is half of a character and has no UTF-8 form",
            fix="Decode the source with errors='replace', or drop the character",
        ) from None


def split_corpus(texts: Iterable[str]) -> dict[str, list[str]]:
    """A corpus in three parts that never meet: `select`, `calibrate`, `held_out`.

    The part of a text depends on its own hash alone, so it is the same in every run and duplicates of a
    text always fall together.
    """
    parts: dict[str, list[str]] = {"select": [], "calibrate": [], "held_out": []}
    for text in texts:
        percent = zlib.crc32(text.encode("utf-8")) % 100
        if percent < SELECT_PERCENT:
            parts["select"].append(text)
        elif percent < SELECT_PERCENT + CALIBRATE_PERCENT:
            parts["calibrate"].append(text)
        else:
            parts["held_out"].append(text)
    return parts
