"""The compact tokenizer gives the ids of the `tokenizer.json` it stands for, or steps aside."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ringkas import RingkasError, compact, texts
from ringkas.compact import COMPACT_FILE, CompactTokenizer, open_compact, write_compact
from ringkas.spec import EncodingSpec
from ringkas.tokens import COMPACT_TEXTS, TextTokenizer

SPEC = EncodingSpec("bert", 512, 384)
# Scripts with and without spaces, marks that compose, digits, what no piece knows, and separators.
ALPHABET = "aeéx 한국어 日本語 ไทยก็ မြန်မာ தமிழ் ខ្មែរ e\u0301\u0085\u200b\u3000▁ \t\n09½ﬁ😀👩\u200d👧𒀀𝕳ﷺ<s>mask"
ODD = ["", " ", "▁", "　", "a  b", "𒀀𒀁 x𒀀", "\x00", "e\u0301", "ﬁ ½", "a" * 3000, "ก" * 700, "<s", "</s"]


@pytest.fixture(scope="module")
def folder(xlmr_tokenizer: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("compact")
    (place / "tokenizer.json").write_text(json.dumps(xlmr_tokenizer), "utf-8")
    assert write_compact(place)
    return place


@pytest.fixture(scope="module")
def opened(folder: Path) -> CompactTokenizer:
    found = open_compact(folder, SPEC)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def full(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(SPEC.max_length)
    return tokenizer


def differing(opened: CompactTokenizer, full: Tokenizer, lines: list[str]) -> list[str]:
    expected = [encoding.ids for encoding in full.encode_batch_fast(lines)]
    return [
        line
        for line, ids in zip(lines, expected, strict=True)
        if opened.encode(line, SPEC) not in (None, ids)
    ]


def test_equal_in_all_languages(
    opened: CompactTokenizer, full: Tokenizer, lines_of: Any, sib200_languages: tuple[str, ...]
) -> None:
    for language in sib200_languages:
        assert differing(opened, full, lines_of(language)) == [], language


def test_equal_on_the_built_in_texts_and_on_odd_ones(opened: CompactTokenizer, full: Tokenizer) -> None:
    lines = [line for part in (texts.probe(), texts.calibration()) for own in part.values() for line in own]
    assert differing(opened, full, [*lines, *ODD]) == []


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(st.text(), st.text(ALPHABET, max_size=60)))
def test_equal_on_any_text(opened: CompactTokenizer, full: Tokenizer, text: str) -> None:
    assert differing(opened, full, [text]) == []


def test_another_score_is_seen(folder: Path, full: Tokenizer, lines_of: Any) -> None:
    found = open_compact(folder, SPEC)
    assert found is not None
    scores = list(found._scores)
    common = found._ids["▁the"]
    scores[common] = -50.0
    found._scores = scores
    assert differing(found, full, lines_of("en")[:50])


def test_a_text_with_an_added_token_is_left_to_tokenizer_json(folder: Path, full: Tokenizer) -> None:
    tokenizer = TextTokenizer(folder, SPEC)
    lines = ["fill <mask> in", "plain", "</s>"]
    assert tokenizer.encode(lines) == [encoding.ids for encoding in full.encode_batch_fast(lines)]


def test_small_calls_do_not_open_tokenizer_json(folder: Path, full: Tokenizer) -> None:
    tokenizer = TextTokenizer(folder, SPEC)
    assert tokenizer.encode(["a text"]) == [full.encode("a text").ids]
    assert tokenizer._opened is None
    many = ["a text", "another"] * COMPACT_TEXTS
    assert tokenizer.encode(many) == [encoding.ids for encoding in full.encode_batch_fast(many)]
    assert tokenizer._opened is not None


def test_the_cache_of_words_is_bounded_in_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words as long as any that is kept, each another, more than are kept: what a hostile text would send."""
    most, fewer, random = compact._CACHED_WORDS, 128, Random(0)
    monkeypatch.setattr(compact, "_CACHED_WORDS", fewer)
    tokenizer = open_compact(folder, SPEC)
    assert tokenizer is not None
    words = ["".join(random.choices("𒀀𒀁𒀂𒀃한국어ก", k=60)) for _ in range(fewer + 20)]
    tracemalloc.start()
    for word in words:
        tokenizer.encode(word, SPEC)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tokenizer._word.cache_info().currsize == fewer
    assert held / fewer * most < 40e6
    tokenizer.encode("𒀀" * 1000, SPEC)  # too long to be kept
    assert tokenizer._word.cache_info().misses == len(words)


def test_truncation_keeps_the_special_tokens(folder: Path) -> None:
    short = EncodingSpec("bert", 8, 384)
    (ids,) = TextTokenizer(folder, short).encode(["a text that is longer than eight tokens, surely"])
    assert (len(ids), ids[0], ids[-1]) == (8, 0, 2)


def test_an_altered_tokenizer_json_is_not_stood_for(
    xlmr_tokenizer: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / COMPACT_FILE).write_bytes((folder / COMPACT_FILE).read_bytes())
    (tmp_path / "tokenizer.json").write_text(json.dumps(xlmr_tokenizer, indent=1), "utf-8")
    assert open_compact(tmp_path, SPEC) is None


@pytest.mark.parametrize("change", ["small", "bytes", "template", "duplicate"])
def test_what_it_is_not_for_gets_none(
    tiny_unigram: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(compact, "FEWEST_PIECES", 10_000 if change == "small" else 10)
    model = dict(tiny_unigram["model"])
    document = tiny_unigram | {"model": model}
    if change == "bytes":
        model["byte_fallback"] = True
    elif change == "template":
        document["post_processor"] = {"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]}
    elif change == "duplicate":
        model["vocab"] = [*model["vocab"], model["vocab"][-1]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), "utf-8")
    assert not write_compact(tmp_path)
    assert not (tmp_path / COMPACT_FILE).exists()


def test_the_tiny_one_without_shared_data(
    tiny_unigram: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "FEWEST_PIECES", 10)
    (tmp_path / "tokenizer.json").write_text(json.dumps(tiny_unigram), "utf-8")
    assert write_compact(tmp_path)
    found = open_compact(tmp_path, SPEC)
    assert found is not None
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokenizer.enable_truncation(SPEC.max_length)
    lines = [line for own in texts.probe().values() for line in own]
    assert differing(found, tokenizer, [*lines, *ODD]) == []


@pytest.mark.parametrize("at", [0.0, 0.3, 0.6, 0.99])
def test_a_damaged_file_is_named(folder: Path, tmp_path: Path, at: float) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    data = bytearray((copy / COMPACT_FILE).read_bytes())
    start = int(at * (len(data) - 64))
    data[start : start + 64] = bytes(byte ^ 0xFF for byte in data[start : start + 64])
    (copy / COMPACT_FILE).write_bytes(data)
    with pytest.raises(RingkasError, match=r"compact\.npz is damaged"):
        open_compact(copy, SPEC)
