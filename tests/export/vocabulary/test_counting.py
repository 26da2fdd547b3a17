"""Corpora are counted as the tokenizer would count them, and never judged by what chose."""

from __future__ import annotations

import gzip
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ringkas import texts as text_sets
from ringkas.errors import TextError
from ringkas.export.vocabulary import counting
from ringkas.export.vocabulary.counting import count_corpus, read_lines
from ringkas.export.vocabulary.kinds import vocabulary_size
from ringkas.export.vocabulary.segment import Segmenter


def _parquet(columns: dict[str, list[Any]]) -> bytes:
    stream = BytesIO()
    pq.write_table(pa.table(columns), stream)
    return stream.getvalue()


TEXTS = [text for listed in text_sets.calibration(["en", "ko", "id", "th"]).values() for text in listed]


@pytest.mark.parametrize("name", ["unigram", "wordpiece"])
def test_words_counted_once_equal_whole_texts(
    small_documents: dict[str, Any], tmp_path: Path, name: str
) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("\n".join(TEXTS * 2), encoding="utf-8")
    segmenter, size = Segmenter(small_documents[name]), vocabulary_size(small_documents[name])
    found = count_corpus([file], segmenter, size)
    chosen = text_sets.split_corpus(line for line in TEXTS * 2 if line.strip())
    expected = np.zeros(size)
    for ids in segmenter.ids(chosen["select"]):
        np.add.at(expected, ids, 1)
    assert np.array_equal(found.counts, expected)
    assert set(found.held_out) == set(chosen["held_out"])
    assert not set(found.held_out) & set(chosen["select"])


@pytest.mark.parametrize(("at_once", "distinct"), [(7, 40), (7, 10_000), (10_000, 40)])
def test_counts_do_not_depend_on_how_words_are_batched(
    small_documents: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at_once: int,
    distinct: int,
) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("\n".join(TEXTS * 2), encoding="utf-8")
    segmenter, size = Segmenter(small_documents["unigram"]), vocabulary_size(small_documents["unigram"])
    expected = count_corpus([file], segmenter, size)
    monkeypatch.setattr(counting, "_LINES_AT_ONCE", 3)
    monkeypatch.setattr(counting, "_WORDS_AT_ONCE", at_once)
    monkeypatch.setattr(counting, "_DISTINCT_AT_ONCE", distinct)
    found = count_corpus([file], segmenter, size)
    assert np.array_equal(found.counts, expected.counts)
    assert expected.tokens > 1000
    assert found.held_out == expected.held_out


def test_half_a_character_in_json_is_refused(small_documents: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "half \\ud800"}\n', encoding="utf-8")
    with pytest.raises(TextError, match="surrogate"):
        count_corpus([tmp_path / "a.jsonl"], Segmenter(small_documents["unigram"]), 10_000)


def test_every_form_of_a_corpus_reads_alike(tmp_path: Path) -> None:
    lines = "\n".join(json.dumps({"text": text}) for text in TEXTS).encode("utf-8")
    plain = "\n\n".join(TEXTS).encode("utf-8")
    parquet, zstd = BytesIO(), zstandard.ZstdCompressor()
    pq.write_table(pa.table({"vector": [[0.5]] * len(TEXTS), "n": range(len(TEXTS)), "text": TEXTS}), parquet)
    contents = {
        "e.parquet": parquet.getvalue(),
        "f.txt.zst": zstd.compress(plain),
        "g.jsonl.zst": zstd.compress(lines),
        "a.txt": plain,
        "b.txt.gz": gzip.compress(plain),
        "c.jsonl": lines,
        "d.jsonl.gz": gzip.compress(lines),
    }
    expected = [text.strip() for text in TEXTS if text.strip()]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert list(read_lines(tmp_path / name)) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfd", "UTF-8"),
        ("a.txt", b"\xff\xfe", "no text"),
        ("a.txt.gz", b"not gzip", "cannot read"),
        ("a.jsonl", b'{"txt": 1}', "line 1"),
        ("a.txt", b"\n \n", "no text"),
        ("missing", None, "cannot read"),
        ("a.parquet", b"PAR1 nonsense PAR1", "as Parquet"),
        ("a.parquet.gz", gzip.compress(b"PAR1 nonsense PAR1", mtime=0), "Parquet in a stream"),
        ("a.parquet", _parquet({"body": ["one"]}), "row 1 .* it has no 'text'"),
        ("a.parquet", _parquet({"text": [1, 2]}), "row 1 .* it has no 'text'"),
    ],
)
def test_a_bad_corpus_is_named(
    small_documents: dict[str, Any], tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(TextError, match=message):
        count_corpus([tmp_path / name], Segmenter(small_documents["unigram"]), 10_000)


def test_calibration_texts_neither_choose_nor_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("\n".join(TEXTS), encoding="utf-8")
    parts = text_sets.split_corpus(text.strip() for text in TEXTS)
    assert list(counting.calibration_texts([file])) == parts["calibrate"]
    assert len(parts["calibrate"]) > 5
    monkeypatch.setattr(counting, "CALIBRATION_LIMIT", 3)
    assert list(counting.calibration_texts([file, file])) == parts["calibrate"][:3]
