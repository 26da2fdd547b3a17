"""BCP-47 tags to what choosing tokens needs: scripts, word lists, and who owns a script.

Scripts come from CLDR (`langcodes`) and the Unicode script property (`regex`), word lists from `wordfreq`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from ringkas.errors import MissingExtra, TargetError

# What CLDR calls a script may be several Unicode scripts; all others are one of the same name.
_UNICODE_SCRIPTS: Mapping[str, tuple[str, ...]] = {
    "Kore": ("Hang",),  # Hanja come through `repertoire` and `rare`: most Korean text has none
    "Hans": ("Hani",),
    "Hant": ("Hani", "Bopo"),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Hrkt": ("Hira", "Kana"),
}

# Scripts in which nearly all text is of one language, and that language. Any other language of such a
# script needs a word list or a corpus of its own.
_OWNERS: Mapping[str, str] = {
    "Armn": "hy", "Geor": "ka", "Grek": "el", "Gujr": "gu", "Guru": "pa", "Hans": "zh", "Hant": "zh",
    "Hebr": "he", "Jpan": "ja", "Khmr": "km", "Knda": "kn", "Kore": "ko", "Laoo": "lo", "Mlym": "ml",
    "Mymr": "my", "Orya": "or", "Sinh": "si", "Taml": "ta", "Telu": "te", "Thaa": "dv", "Thai": "th",
    "Tibt": "bo",
}  # fmt: skip

# The characters that writers of a shared script know: national standards, which Python's codecs hold.
_REPERTOIRES: Mapping[str, str] = {
    "Hans": "gb2312",
    "Hant": "big5",
    "Jpan": "shift_jis",
    "Kore": "euc_kr",
}

# Languages that do not part their words by spaces.
_UNSPACED = frozenset({"zh", "ja", "th", "km", "lo", "my", "bo"})

# langcodes' distance at which two tags still write the same words (hr and sr: 9; id and jv: 20).
_SAME_WORDS = 9


@dataclass(frozen=True)
class Language:
    """One language to keep.

    `scripts` are Unicode script names; `word_list` is wordfreq's name of its list or None; `owns_script`
    says that (nearly) all text in its scripts is of this language; `repertoire` names a codec whose
    characters are the ones in use; `spaced` says that spaces part words.
    """

    tag: str
    scripts: tuple[str, ...]
    word_list: str | None
    owns_script: bool
    repertoire: str | None
    spaced: bool

    @property
    def known(self) -> bool:
        """Whether its text is known without a corpus."""
        return self.word_list is not None or self.owns_script


def resolve_languages(tags: Iterable[str], corpora: Mapping[str, tuple[Path, ...]]) -> tuple[Language, ...]:
    """The languages of BCP-47 `tags`, in order, each once. `corpora` are by canonical tag.

    Raises:
        TargetError: no tag; not a language; neither a word list, a script of its own nor a corpus; a corpus
            for a language that was not chosen.
    """
    chosen = dict.fromkeys(map(canonical, tags))
    if not chosen:
        raise TargetError("no language was named", fix="Name some, for example --languages ko,en")
    resolved = tuple(resolve(tag, bool(corpora.get(tag))) for tag in chosen)
    for tag in corpora:
        if tag not in chosen:
            raise TargetError(
                f"there is a corpus for {tag!r}, which is not among the languages",
                fix=f"Add it: --languages {','.join([*sorted(chosen), tag])}",
            )
    return resolved


def resolve(tag: str, has_corpus: bool) -> Language:
    """One language; see `resolve_languages`."""
    import langcodes

    tag = canonical(tag)
    full = langcodes.Language.get(tag).maximize()
    script = full.script or "Zyyy"
    owns = _OWNERS.get(script) == full.language
    words = _word_list(tag, script)
    if words is None and not owns and not has_corpus:
        raise TargetError(
            f"the language {tag!r} has no word list and shares its script ({script}) with others",
            why="which tokens it needs would be a guess",
            fix=f"Give text in it: --corpus {tag}=FILE (known without one: {', '.join(known_languages())})",
        )
    return Language(
        tag=tag,
        scripts=_UNICODE_SCRIPTS.get(script, (script,)),
        word_list=words,
        owns_script=owns,
        repertoire=_REPERTOIRES.get(script),
        spaced=full.language not in _UNSPACED,
    )


@cache
def known_languages() -> tuple[str, ...]:
    """The languages that need no corpus."""
    return tuple(sorted({*_word_lists(), *_OWNERS.values()}))


def words_of(word_list: str) -> dict[str, float]:
    """The words of one of wordfreq's lists and their frequencies, the most frequent first."""
    import wordfreq

    frequencies: dict[str, float] = wordfreq.get_frequency_dict(word_list, "best")
    return frequencies


def _word_list(tag: str, script: str) -> str | None:
    import langcodes

    match = langcodes.closest_supported_match(tag, list(_word_lists()), max_distance=_SAME_WORDS)
    # The list must be in the same script: Serbian in Cyrillic is not served by a list in Latin.
    if match is None or langcodes.Language.get(_written(match)).maximize().script != script:
        return None
    return str(match)


def _written(word_list: str) -> str:
    return {"sh": "sr-Latn"}.get(word_list, word_list)


@cache
def _word_lists() -> tuple[str, ...]:
    for package in ("wordfreq", "langcodes", "regex"):
        if find_spec(package) is None:
            raise MissingExtra(package, "prune")
    import wordfreq

    return tuple(sorted(wordfreq.available_languages("best")))


def canonical(tag: str) -> str:
    """The tag as BCP-47 writes it today (`tl` is `fil`).

    Raises:
        TargetError: it is no language.
    """
    _word_lists()
    import langcodes

    try:
        standard = str(langcodes.standardize_tag(tag))
        valid = langcodes.tag_is_valid(standard) and langcodes.Language.get(standard).language is not None
    except ValueError:  # langcodes' errors are of that kind
        valid = False
    if not valid or standard == "und":
        raise TargetError(
            f"{tag!r} is not a BCP-47 language",
            fix=f"Known: {', '.join(known_languages())}; any other with text in it: --corpus TAG=FILE",
        )
    return standard
