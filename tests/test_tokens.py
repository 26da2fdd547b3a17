"""Token ids: the same as transformers', truncated with the special tokens kept, padded on the right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringkas.errors import CheckpointError
from ringkas.spec import EncodingSpec
from ringkas.tokens import TextTokenizer, pad

TEXTS = ["a bicycle", "", "   ", "ABC def 123", "안녕 세상", "x" * 3000, "word " * 2000, "e\u0301\u00e9 🙂"]


@pytest.fixture
def folder(tiny_unigram: dict[str, Any], tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_text(json.dumps(tiny_unigram), encoding="utf-8")
    return tmp_path


def spec(**overrides: Any) -> EncodingSpec:
    return EncodingSpec(**({"family": "bert", "max_length": 16, "dimension": 8, "pad_id": 1} | overrides))


@pytest.mark.parametrize("max_length", [3, 16, 512])
def test_ids_equal_transformers(folder: Path, max_length: int) -> None:
    transformers = pytest.importorskip("transformers")
    peer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer = TextTokenizer(folder, spec(max_length=max_length))
    expected = peer(TEXTS, truncation=True, max_length=max_length)["input_ids"]
    assert tokenizer.encode(TEXTS) == expected
    assert max(map(len, expected)) == max_length  # the limit was met, so it was tested


def test_one_text_gets_what_it_gets_among_many(folder: Path) -> None:
    tokenizer = TextTokenizer(folder, spec())
    assert [tokenizer.encode([text])[0] for text in TEXTS] == tokenizer.encode(TEXTS)


def test_truncation_keeps_the_special_tokens(folder: Path) -> None:
    ids = TextTokenizer(folder, spec(max_length=8)).encode(["word " * 50])[0]
    assert (len(ids), ids[0], ids[-1]) == (8, 0, 2)


def test_padding_and_truncation_stored_in_the_file_do_not_count(
    tiny_unigram: dict[str, Any], tmp_path: Path
) -> None:
    stored = tiny_unigram | {
        "padding": {
            "strategy": {"Fixed": 12},
            "direction": "Left",
            "pad_to_multiple_of": None,
            "pad_id": 1,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        },
        "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(stored), encoding="utf-8")
    lengths = [len(ids) for ids in TextTokenizer(tmp_path, spec()).encode(["", "word " * 50])]
    assert lengths == [2, 16]


def test_lower_case_is_put_before_the_own_normalizer(folder: Path) -> None:
    plain, lower = TextTokenizer(folder, spec()), TextTokenizer(folder, spec(lower_case=True))
    assert lower.encode(["HELLO There"]) == plain.encode(["hello there"])
    assert plain.encode(["HELLO There"]) != plain.encode(["hello there"])


def test_prompt_length_leaves_out_only_the_closing_special_token(folder: Path) -> None:
    tokenizer = TextTokenizer(folder, spec(max_length=64))
    prompt = "a word: "
    assert tokenizer.prompt_length(prompt) == len(tokenizer.encode([prompt])[0]) - 1


def test_padding_is_on_the_right_and_masked() -> None:
    batch = pad([[5, 6, 7], [8]], pad_id=1)
    np.testing.assert_array_equal(batch.input_ids, [[5, 6, 7], [8, 1, 1]])
    np.testing.assert_array_equal(batch.attention_mask, [[1, 1, 1], [1, 0, 0]])
    assert (batch.input_ids.dtype, batch.attention_mask.dtype) == (np.int64, np.int64)


def test_missing_tokenizer_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.json is missing.*save_pretrained"):
        TextTokenizer(tmp_path, spec())


@pytest.mark.parametrize("content", ["", "{", '{"model": {"type": "Nonsense"}}', "[]"])
def test_broken_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        TextTokenizer(tmp_path, spec())
