"""The frequency tables: small, what was packed comes out, and what they say is worth having."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import pytest

from ringkas import texts as text_sets
from ringkas.export.vocabulary import usage
from ringkas.export.vocabulary.languages import resolve_languages
from ringkas.export.vocabulary.pieces import Weights, read_pieces
from ringkas.export.vocabulary.segment import Segmenter, segment_rows
from ringkas.export.vocabulary.select import Limits, choose, must_keep
from ringkas.export.vocabulary.tables import NAMES, _unpacked, pack, table, tables
from ringkas.export.vocabulary.usage import Usage, expect_usage

ROWS = 15_000


def test_what_is_packed_comes_out_to_a_quarter_of_a_factor_of_two() -> None:
    words = {"Ice": 7.0, "Iceland": 3.0, "iceland": 0.001, "é" * 60: 1.0, "é" * 61: 2.0}
    found = dict(_unpacked(pack(words)))
    assert set(found) == set(words)
    for word, frequency in found.items():
        assert abs(np.log2(words[word] / 7.0) - np.log2(frequency)) <= 0.125 + 1e-9
    assert pack(dict(reversed(words.items()))) == pack(words)
    with pytest.raises(ValueError, match="tab or a line feed"):
        pack({"a\tb": 1.0})


def test_all_tables_together_are_small_and_sum_to_one() -> None:
    folder = files("ringkas") / "data" / "frequencies"
    assert sum(len((folder / f"{name}.xz").read_bytes()) for name in tables()) < 3_000_000
    assert {"en", "ko", "vi", "id", "ms", "fil", "ta", "hi", "ja", NAMES} <= tables()
    assert sum(table("ms").values()) == pytest.approx(1.0)
    assert not table("xx")
    assert "London" in table(NAMES)
    assert table("en")["London"] > table("en").get("london", 0.0)
    assert "従業員" in table("ja")  # unparted, as the word list has it not


@pytest.mark.full
def test_the_floor_of_english_and_what_shuffled_frequencies_do_to_it(
    xlmr_tokenizer: dict[str, Any], sib200: Callable[[str], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces, segmenter = read_pieces(xlmr_tokenizer), Segmenter(xlmr_tokenizer)
    languages = resolve_languages(("en",), {})
    must = must_keep(languages, pieces, (), all_characters=False)
    rows = [np.array(ids) for ids in segmenter.ids(sib200("en"))]

    def identical() -> float:
        kept = choose(pieces, expect_usage(languages, pieces, segmenter), must, Limits(max_tokens=36_000))
        return float(np.mean([kept[ids].all() for ids in rows]))

    honest = identical()
    assert honest >= 0.98
    chance = np.random.default_rng(0)

    def shuffle(words: Mapping[str, float]) -> dict[str, float]:
        return dict(zip(words, chance.permutation(list(words.values())), strict=True))

    words, listed = table("en"), usage.words_of("en")
    monkeypatch.setattr(usage, "table", lambda name: shuffle(words))
    assert identical() < 0.98  # the floor falls, though the word list is as it was
    monkeypatch.setattr(usage, "words_of", lambda name: shuffle(listed))
    assert identical() < honest - 0.1


def test_shuffled_frequencies_make_the_figures_fall(xlmr_tokenizer: dict[str, Any]) -> None:
    # The same words, each with the frequency of another: what the tables know is in the pairing.
    pieces, segmenter = read_pieces(xlmr_tokenizer), Segmenter(xlmr_tokenizer)
    must = must_keep(resolve_languages(("en",), {}), pieces, (), all_characters=False)
    texts = [text for listed in text_sets.calibration(["en"]).values() for text in listed]
    tokens = np.array([id for ids in segmenter.ids(texts) for id in ids])
    words = table("en")
    rows, frequencies = segment_rows(segmenter, words), np.array(list(words.values()))

    def lost(frequencies: Weights) -> float:
        by_table = Usage({"en": rows.spread(frequencies, len(pieces))})
        return float((~choose(pieces, by_table, must, Limits(max_tokens=ROWS))[tokens]).mean())

    honest, shuffled = lost(frequencies), lost(np.random.default_rng(0).permutation(frequencies))
    assert shuffled > 1.5 * honest, (shuffled, honest)
