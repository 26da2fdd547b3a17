"""Texts: the built-in sets, what a text is, and the split of a corpus."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from ringkas import questions, texts
from ringkas.errors import TextError

LANGUAGES = {"en", "zh", "ko", "th", "vi", "id", "ms", "fil", "my", "km", "lo", "ta", "ja"}
# Some letters that a text of the language cannot do without, by Unicode block.
SCRIPTS = {
    "zh": r"[\u4e00-\u9fff]",
    "ko": r"[\uac00-\ud7a3]",
    "th": r"[\u0e00-\u0e7f]",
    "my": r"[\u1000-\u109f]",
    "km": r"[\u1780-\u17ff]",
    "lo": r"[\u0e80-\u0eff]",
    "ta": r"[\u0b80-\u0bff]",
    "ja": r"[\u3040-\u30ff\u4e00-\u9fff]",
    "vi": r"[\u1ea0-\u1ef9\u0110\u0111]",
}


def folded(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


# The built-in sets


@pytest.mark.parametrize(("name", "least"), [("probe", 20), ("calibration", 40)])
def test_sets_have_every_language(name: str, least: int) -> None:
    found = getattr(texts, name)()
    assert set(found) == LANGUAGES | {"und"}
    few = {language: len(lines) for language, lines in found.items() if len(lines) < least}
    assert few.pop("und", least) >= 10
    assert few == {}
    assert not [line for lines in found.values() for line in lines if not line.strip()]


@pytest.mark.parametrize("name", ["probe", "calibration"])
def test_lines_are_in_their_language_s_script(name: str) -> None:
    found = getattr(texts, name)()
    strangers = [
        line for lang, script in SCRIPTS.items() for line in found[lang] if not re.search(script, line)
    ]
    assert strangers == []


@pytest.mark.parametrize("name", ["probe", "calibration"])
def test_no_text_stands_twice(name: str) -> None:
    lines = [folded(line) for group in getattr(texts, name)().values() for line in group]
    assert len(set(lines)) == len(lines)


def all_sets() -> dict[str, list[str]]:
    asked = [question for group in questions.questions().values() for question in group]
    return {
        "probe": [line for lines in texts.probe().values() for line in lines],
        "calibration": [line for lines in texts.calibration().values() for line in lines],
        "retrieval": [*(question.query for question in asked), *questions.passages(asked)],
    }


def meetings(sets: dict[str, list[str]]) -> list[tuple[str, str, str]]:
    """(set, other set, text) wherever a text of the one is one of the other, or a long one is part of it."""
    met = []
    for (name, lines), (other, theirs) in permutations(sets.items(), 2):
        there = {folded(line) for line in theirs}
        everything = "\n".join(there)
        for line in map(folded, lines):
            if line in there or (len(line) > 20 and line in everything):
                met.append((name, other, line))
    return met


def test_sets_never_meet() -> None:
    sets = all_sets()
    assert {name: len(lines) > 300 for name, lines in sets.items()} == dict.fromkeys(sets, True)
    assert meetings(sets) == []


@pytest.mark.parametrize(("name", "other"), [*permutations(["probe", "calibration", "retrieval"], 2)])
def test_a_text_in_two_sets_is_noticed(name: str, other: str) -> None:
    sets = all_sets()
    borrowed = min(sets[other], key=len)
    sets[name].append(f" {borrowed.upper()} ")
    assert (name, other, folded(borrowed)) in meetings(sets)


def test_a_sentence_that_is_part_of_another_text_is_noticed() -> None:
    sets = all_sets()
    borrowed = max(sets["retrieval"], key=len)
    sets["probe"].append(f"Before it. {borrowed} And after it.")
    assert meetings(sets) == [("retrieval", "probe", folded(borrowed))]


def test_no_set_holds_a_sentence_of_the_shared_data(
    sib200: Callable[[str], list[str]], sib200_languages: tuple[str, ...]
) -> None:
    shared = {folded(line) for language in sib200_languages for line in sib200(language)}
    built_in = {folded(line) for lines in all_sets().values() for line in lines}
    assert len(shared) > 11_000
    assert shared & built_in == set()


@pytest.mark.parametrize("name", ["probe", "calibration"])
def test_lines_part_at_line_feeds_alone(name: str) -> None:
    folder = Path(texts.__file__).parent / "data" / name
    for language, lines in getattr(texts, name)().items():
        data = (folder / f"{language}.txt").read_bytes().decode("utf-8")
        assert list(lines) == data.removesuffix("\n").split("\n")


def test_every_language_has_texts_short_and_past_the_limit(xlmr_tokenizer: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_str(json.dumps(xlmr_tokenizer))
    tokenizer.no_truncation()
    for language in texts.LANGUAGES:
        lines = list(texts.probe()[language])
        lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch(lines)]
        assert max(lengths) > 512, language
        assert min(lengths) <= 12, language


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        ("emoji", r"[\U0001f300-\U0001faff]"),
        ("URL", r"https?://"),
        ("digits", r"\d{3}"),
        ("code", r"[(){};=]{2}"),
        ("Latin beside Hangul or Han", r"[A-Za-z].*[\uac00-\ud7a3\u4e00-\u9fff]"),
    ],
)
def test_undetermined_texts_hold(what: str, pattern: str) -> None:
    assert any(re.search(pattern, line) for line in texts.probe()["und"]), what


def test_undetermined_texts_hold_decomposed_accents() -> None:
    decomposed = [line for line in texts.probe()["und"] if not unicodedata.is_normalized("NFC", line)]
    assert any(unicodedata.is_normalized("NFD", line) for line in decomposed)


@pytest.mark.parametrize("name", ["probe", "calibration"])
def test_languages_choose(name: str) -> None:
    load = getattr(texts, name)
    assert list(load(["ko", "en"])) == ["en", "ko", "und"]
    assert load(["ko"])["ko"] == load()["ko"]


# What is a text


@pytest.mark.parametrize("bad", [None, 5, b"bytes", ["list"], float("nan")])
def test_what_is_no_string_is_named_by_its_position(bad: Any) -> None:
    with pytest.raises(TextError, match=f"text 1 is {type(bad).__name__}, not a string"):
        texts.check_texts(["fine", bad])


@pytest.mark.parametrize(("bad", "code", "at"), [("\ud83d", "D83D", 0), ("ab\udc00c", "DC00", 2)])
def test_lone_surrogate_is_named_by_its_position(bad: str, code: str, at: int) -> None:
    with pytest.raises(TextError, match=rf"text 2 holds a lone surrogate \(U\+{code}\) at character {at}"):
        texts.check_texts(["fine", "🙂", bad])


@pytest.mark.parametrize("good", ["", " ", "x" * 100_000, "\U0001f642", "\0", "\ufeff", "e\u0301"])
def test_odd_texts_are_texts(good: str) -> None:
    texts.check_texts([good])


# The split


def corpus() -> list[str]:
    generator = random.Random(5)
    return [f"{generator.random()} {number}" for number in range(20_000)]


def test_parts_have_their_shares_and_never_meet() -> None:
    lines = corpus()
    parts = texts.split_corpus(lines)
    shares = {name: len(part) / len(lines) for name, part in parts.items()}
    assert shares == {
        "select": pytest.approx(0.8, abs=0.01),
        "calibrate": pytest.approx(0.1, abs=0.01),
        "held_out": pytest.approx(0.1, abs=0.01),
    }
    assert sorted(line for part in parts.values() for line in part) == sorted(lines)
    assert sum(len(set(part)) for part in parts.values()) == len(set(lines))


def test_split_depends_on_the_text_alone() -> None:
    lines = corpus()[:2000]
    shuffled = random.Random(6).sample(lines, len(lines))
    expected = {name: set(part) for name, part in texts.split_corpus(lines).items()}
    assert {name: set(part) for name, part in texts.split_corpus(shuffled).items()} == expected


def test_duplicates_fall_together() -> None:
    lines = corpus()[:500] * 3
    for part in texts.split_corpus(lines).values():
        assert all(part.count(line) == 3 for line in set(part))


@pytest.mark.parametrize(("tag", "language"), [("en-US", "en"), ("zh-Hant-TW", "zh"), ("KO", "ko")])
def test_region_and_script_lead_to_the_language(tag: str, language: str) -> None:
    assert texts.probe([tag])[language] == texts.probe([language])[language]
