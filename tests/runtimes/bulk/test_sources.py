"""Every format, compressed or not, gives the same rows, from any row on."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from ringkas.errors import RingkasError, TextError
from ringkas.runtimes.bulk.rows import problem_of
from ringkas.runtimes.bulk.sources import Columns, Source, find_files

TEXTS = ["plain", "", "  spaces ", "한국어 문장", 'quote " and, comma', "🙂 e\u0301", "a\u2028b\u0085c"] * 50
IDS = [f"id-{n}" for n in range(len(TEXTS))]


def parquet(texts: list[str], ids: list[str]) -> bytes:
    data = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "id": ids, "other": ids}), data, row_group_size=33)
    return data.getvalue()


def csv_of(texts: list[str], ids: list[str], delimiter: str = ",") -> bytes:
    data = io.StringIO(newline="")
    writer = csv.writer(data, delimiter=delimiter)
    writer.writerow(["other", "text", "id"])
    writer.writerows(zip(ids, texts, ids, strict=True))
    return data.getvalue().encode()


WRITERS: dict[str, Callable[[list[str], list[str]], bytes]] = {
    ".parquet": parquet,
    ".csv": csv_of,
    ".tsv": lambda texts, ids: csv_of(texts, ids, "\t"),
    ".jsonl": lambda texts, ids: "".join(
        json.dumps({"id": id, "text": text}) + "\n" for text, id in zip(texts, ids, strict=True)
    ).encode(),
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}
COLUMNS = Columns("text", ("id",))


def read(source: Source, first: int = 0) -> tuple[list[object], list[str]]:
    texts: list[object] = []
    ids: list[str] = []
    row = first
    for block in source.blocks(first):
        assert block.first == row
        row += len(block.texts)
        texts += block.texts
        if block.carried is not None:
            ids += block.carried.column("id").to_pylist()
    return texts, ids


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("packed", PACKERS)
@pytest.mark.parametrize("first", [0, 1, 33, 40, 349, 350, 351, 699])
def test_formats_give_the_same_rows_from_any_on(ending: str, packed: str, first: int, tmp_path: Path) -> None:
    if ending == ".parquet" and packed:
        pytest.skip("Parquet is compressed within")
    for name in "ab":
        file = tmp_path / f"{name}{ending}{packed}"
        file.write_bytes(PACKERS[packed](WRITERS[ending](TEXTS, IDS)))
    source = Source(find_files([str(tmp_path / f"*{ending}{packed}")]), columns=COLUMNS)
    assert len(source.files) == 2
    assert read(source, first) == ((TEXTS * 2)[first:], (IDS * 2)[first:])
    assert source.rows() == (2 * len(TEXTS) if ending == ".parquet" else None)


@pytest.mark.parametrize("packed", PACKERS)
def test_plain_lines_by_content(packed: str, tmp_path: Path) -> None:
    (tmp_path / "texts").write_bytes(PACKERS[packed]("\n".join(TEXTS).encode()))
    assert read(Source((tmp_path / "texts",))) == (TEXTS, [])


def test_bad_lines_are_rows_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(
        '{"text": "a"}\n{"text": null}\nnonsense\n[]\n{"id": 1}\n{"text": "\\ud83d"}\n{"text": 5}\n'
    )
    texts, _ = read(Source((file,)))
    assert [problem_of(text) is None for text in texts] == [True] + [False] * 6


def test_bad_rows_of_csv(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text('text,id\na,1\nb\n"c\nd",2\ne,3,4\nf,5\n')
    texts, ids = read(Source((file,), columns=COLUMNS))
    assert [text if isinstance(text, str) else "bad" for text in texts] == ["a", "bad", "c\nd", "bad", "f"]
    assert ids == ["1", None, "2", None, "5"]
    file.write_text('text,id\na,1\n"b"c,2\nd,3\n')
    with pytest.raises(TextError, match=r"line 3 of .*a\.csv is not CSV"):
        read(Source((file,), columns=COLUMNS))


def test_pipes_are_read_once_and_carry_strings(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    source = Source(find_files([str(pipe)]), "jsonl", COLUMNS)
    assert not source.resumable
    assert source.identity() == []
    lines = '{"text": "a", "id": 5}\n{"text": "b", "id": "x"}\n{"text": "c"}\n'
    thread = threading.Thread(target=pipe.write_text, args=(lines,))
    thread.start()
    assert read(source) == (["a", "b", "c"], ["5", "x", None])
    thread.join()


def test_parquet_that_is_not_utf8_is_one_bad_row(tmp_path: Path) -> None:
    values = pa.array([b"fine", b"\xff", None]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": values}), tmp_path / "a.parquet")
    texts, _ = read(Source((tmp_path / "a.parquet",)))
    assert texts[0] == "fine"
    assert "byte 0xff at offset 0" in (problem_of(texts[1]) or "")
    assert texts[2] is None


@pytest.mark.parametrize("ending", [".parquet", ".csv"])
def test_missing_column_lists_those_that_are_there(ending: str, tmp_path: Path) -> None:
    (tmp_path / f"a{ending}").write_bytes(WRITERS[ending](["a"], ["1"]))
    with pytest.raises(TextError, match=r"no column 'body': its columns are .*other"):
        read(Source((tmp_path / f"a{ending}",), columns=Columns("body")))


def test_plain_lines_carry_no_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\n")
    with pytest.raises(TextError, match="no columns"):
        read(Source((tmp_path / "a.txt",), columns=COLUMNS))


def test_columns_that_change_their_type_are_named(tmp_path: Path) -> None:
    lines = [{"text": "a", "id": 1}] * 2000 + [{"text": "a", "id": "not a number"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RingkasError, match="change their type"):
        read(Source((tmp_path / "a.jsonl",), columns=COLUMNS))


@pytest.mark.parametrize("pattern", ["absent.txt", "*.absent", "folder"])
def test_pattern_without_files(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(TextError, match="no such file"):
        find_files([str(tmp_path / pattern)])


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv"])
def test_parquet_under_another_name_is_not_read_as_lines(tmp_path: Path, name: str) -> None:
    pq.write_table(pa.table({"text": ["one"]}), tmp_path / name)
    with pytest.raises(TextError, match=rf"{name} is a Parquet file. Name it \.parquet"):
        read(Source((tmp_path / name,)))


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    whole = gzip.compress(b"a\n" * 5000)
    (tmp_path / "cut.txt.gz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "no.parquet").write_bytes(b"PAR1 nonsense PAR1")
    for name in ("cut.txt.gz", "no.parquet"):
        with pytest.raises(TextError, match=f"cannot read .*{name}"):
            read(Source((tmp_path / name,)))
