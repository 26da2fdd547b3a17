"""Cases are real texts at the lengths they claim."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from string import ascii_lowercase

import pytest

from ringkas import Encoder, load
from ringkas.errors import TargetError, TextError
from ringkas.runtimes.measure.cases import (
    MIX,
    OFFLINE,
    SCENARIOS,
    SERVER,
    SINGLE_STREAM,
    built_in_language,
    built_in_texts,
    cases,
)
from ringkas.texts import LANGUAGES, calibration, probe
from ringkas.tokens import TextTokenizer


@pytest.fixture(scope="module")
def encoder(demo_artifacts: Path) -> Iterator[Encoder]:
    with load(demo_artifacts / "onnx-fp32") as loaded:
        yield loaded


def test_built_in_cases_have_the_lengths_they_name(encoder: Encoder) -> None:
    found = {case.name: case for case in cases(encoder.tokenizer, built_in_texts("en"), SCENARIOS)}
    # 256 is the demo checkpoint's limit: it stands for 512.
    assert list(found) == ["8 tokens", "32 tokens", "128 tokens", "256 tokens", MIX, OFFLINE, SERVER]
    for case in found.values():
        counts = [len(ids) for ids in encoder.tokenizer.encode(case.texts)]
        assert case.tokens == sum(counts)
        assert len(set(case.texts)) == len(case.texts)
        if case.name.endswith("tokens"):
            assert len(case.texts) == 4
            asked = int(case.name.split()[0])
            assert all(abs(count - asked) <= asked / 4 for count in counts)


def test_nothing_that_was_calibrated_on_is_timed(encoder: Encoder) -> None:
    calibrated = set(calibration(["en"])["en"])
    for case in cases(encoder.tokenizer, built_in_texts("en"), SCENARIOS):
        assert not calibrated.intersection(case.texts)


def test_own_texts_are_all_there_and_absent_lengths_are_left_out(encoder: Encoder) -> None:
    found = cases(
        encoder.tokenizer, ["one two three four five six", "", "a b c d e f"], [SINGLE_STREAM, OFFLINE]
    )
    assert [case.name for case in found] == ["8 tokens", MIX, OFFLINE]
    assert found[-1].texts == ("one two three four five six", "a b c d e f")
    assert not found[-1].one_at_a_time


def test_no_text_is_an_error(encoder: Encoder) -> None:
    with pytest.raises(TextError, match="no text to measure with"):
        cases(encoder.tokenizer, ["", "  "], SCENARIOS)


def test_no_text_is_tokenised_twice(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    encode = TextTokenizer.encode

    def watched(tokenizer: TextTokenizer, texts: list[str]) -> list[list[int]]:
        seen.extend(texts)
        return encode(tokenizer, texts)

    monkeypatch.setattr(TextTokenizer, "encode", watched)
    cases(encoder.tokenizer, built_in_texts("en"), SCENARIOS)
    assert len(seen) == len(set(seen))


def test_a_language_is_known_by_its_tag_and_by_its_older_name() -> None:
    assert built_in_texts("ko-KR") == probe(["ko"])["ko"]
    assert built_in_texts("tl") == probe(["fil"])["fil"]


def test_older_names_are_those_of_langcodes() -> None:
    langcodes = pytest.importorskip("langcodes", reason="comes with the extra [prune]")
    for tag in map("".join, product(ascii_lowercase, repeat=2)):
        today = langcodes.standardize_tag(tag)
        assert built_in_language(tag) == (today if today in LANGUAGES else None)


@pytest.mark.parametrize("language", ["fr", "englsh", "und", ""])
def test_a_language_without_texts_is_an_error(language: str) -> None:
    with pytest.raises(TargetError, match=f"no built-in texts of the language '{language}'.*en, zh.*--texts"):
        built_in_texts(language)
