"""Files of texts: one reader for every command, and every form that a file comes in."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from ringkas import text_files
from ringkas.errors import MissingExtra, TextError
from ringkas.export.vocabulary.counting import read_lines
from ringkas.text_files import iterate_rows, iterate_texts, read_texts

ROWS = ["one", "", "Größe e\u0301", "한국어 🙂", "\u2028 \u0085", "last"]
PLAIN = "".join(row + "\n" for row in ROWS).encode()
JSON = "".join(json.dumps({"id": 1, "text": row}, ensure_ascii=False) + "\n" for row in ROWS).encode()


def zstd(data: bytes) -> bytes:
    zstandard = pytest.importorskip("zstandard", reason="zstd needs the extra [bulk]")
    return bytes(zstandard.ZstdCompressor().compress(data))


# Users' files


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\n\n  \ntwo\n\n", ["one", "", "  ", "two", ""]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        (b"\xef\xbb\xbf", []),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        ("a\u2028b\u0085c\u2029d\x0be\x0cf\x1cg\rh\n".encode(), ["a\u2028b\u0085c\u2029d\x0be\x0cf\x1cg\rh"]),
        ("한국어\n日本語".encode(), ["한국어", "日本語"]),
    ],
)
def test_one_text_a_line(tmp_path: Path, data: bytes, expected: list[str]) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(data)
    assert read_texts(file) == expected


def test_json_lines(tmp_path: Path) -> None:
    file = tmp_path / "texts.jsonl"
    rows = ["one", "", "line\nfeed", "\u2028 \u0085", "한국어 🙂"]
    file.write_text(
        "".join(json.dumps({"id": 1, "text": row}, ensure_ascii=False) + "\n" for row in rows), "utf-8"
    )
    assert read_texts(file) == rows


@pytest.mark.parametrize(
    "line", ["", "{", '"text"', "[]", "null", "{}", '{"text": null}', '{"text": 5}', '{"texts": "x"}']
)
def test_bad_json_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text(f'{{"text": "fine"}}\n{line}\n{{"text": "fine"}}\n', "utf-8")
    with pytest.raises(TextError, match=r"line 2 of .*texts\.jsonl holds no text"):
        read_texts(file)


@pytest.mark.parametrize(
    "data", ["Größe".encode("latin-1"), "日本".encode("shift_jis"), b"fine\n\xed\xa0\x80"]
)
def test_other_encodings_are_refused_with_the_offset(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "texts.txt"
    file.write_bytes(data)
    with pytest.raises(UnicodeDecodeError) as decoding:
        data.decode("utf-8")
    with pytest.raises(TextError, match=rf"is not UTF-8: byte .* at offset {decoding.value.start}\b"):
        read_texts(file)


@pytest.mark.parametrize("kind", ["missing", "folder"])
def test_what_cannot_be_read_is_one_line(tmp_path: Path, kind: str) -> None:
    place = tmp_path if kind == "folder" else tmp_path / "absent.txt"
    with pytest.raises(TextError, match="cannot read"):
        read_texts(place)


# Formats, by content


@pytest.mark.parametrize("name", ["t.jsonl", "t.JSONL", "t.ndjson", "t.NdJson", "t.json"])
@pytest.mark.parametrize("pack", [None, "gz", "zst"])
def test_json_lines_under_every_name(tmp_path: Path, name: str, pack: str | None) -> None:
    file = tmp_path / (f"{name}.{pack.upper() if name.isupper() else pack}" if pack else name)
    file.write_bytes({None: bytes, "gz": gzip.compress, "zst": zstd}[pack](JSON))
    assert read_texts(file) == ROWS


@pytest.mark.parametrize("name", ["t", "t.txt", "t.TXT", "t.tsv", "t.txt.gz", "t.GZ", "t.txt.zst"])
@pytest.mark.parametrize("pack", ["gz", "zst"])
def test_compression_is_known_by_content(tmp_path: Path, name: str, pack: str) -> None:
    file = tmp_path / name
    file.write_bytes({"gz": gzip.compress, "zst": zstd}[pack](PLAIN))
    stated = file.suffix.lower().lstrip(".")
    if stated in ("gz", "zst") and stated != pack:
        with pytest.raises(TextError, match=f"ends in .{stated}, but is not compressed that way"):
            read_texts(file)
    else:
        assert read_texts(file) == ROWS


def test_compressed_parts_one_after_the_other(tmp_path: Path) -> None:
    half = len(PLAIN) // 2
    for pack in (gzip.compress, zstd):
        (tmp_path / "t").write_bytes(pack(PLAIN[:half]) + pack(PLAIN[half:]))
        assert read_texts(tmp_path / "t") == ROWS


@pytest.mark.parametrize("name", ["t.txt.gz", "t.txt.zst"])
@pytest.mark.parametrize("left", [0, 3, 6, 12, -1, -9])
def test_cut_compressed_file_is_no_shorter_one(tmp_path: Path, name: str, left: int) -> None:
    data = (gzip.compress if name.endswith("gz") else zstd)(PLAIN * 50)
    (tmp_path / name).write_bytes(data[:left])
    with pytest.raises(TextError, match=r"cannot read|not compressed that way"):
        read_texts(tmp_path / name)


@pytest.mark.parametrize("at", [5, 40, -6])
def test_damaged_compressed_file_is_one_line(tmp_path: Path, at: int) -> None:
    for pack in (gzip.compress, zstd):
        data = bytearray(pack(os.urandom(300).hex().encode() + b"\n"))
        data[at] ^= 0xFF
        (tmp_path / "t").write_bytes(data)
        try:  # zstd without its checksum may decompress to other bytes: those are no defect of the reader
            list(iterate_texts(tmp_path / "t"))
        except TextError:
            continue


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
@pytest.mark.parametrize("name", ["t.txt", "t.jsonl"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_byte_order_mark_says_the_encoding(
    tmp_path: Path, mark: bytes, encoding: str, name: str, pack: type[bytes]
) -> None:
    content = (JSON if name.endswith("l") else PLAIN).decode().replace("\n", "\r\n")
    (tmp_path / name).write_bytes(pack(mark + content.encode(encoding)))
    assert read_texts(tmp_path / name) == ROWS


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["plain words\n", "Größe\n", "hi"])
def test_utf16_without_a_mark_is_refused_with_the_command(tmp_path: Path, encoding: str, text: str) -> None:
    (tmp_path / "t.txt").write_bytes(text.encode(encoding))
    with pytest.raises(TextError, match=f"iconv -f {encoding[:-3].upper()}{encoding[-2:].upper()} "):
        read_texts(tmp_path / "t.txt")


@pytest.mark.parametrize("damage", [codecs.BOM_UTF16_LE + b"a", codecs.BOM_UTF16_LE + b"\x00\xd8a\x00"])
def test_damaged_utf16_is_one_line(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "t.txt").write_bytes(damage)
    with pytest.raises(TextError, match="is not UTF-16-LE"):
        read_texts(tmp_path / "t.txt")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
            "Git-LFS pointer.*git lfs pull",
        ),
        (b"PK\x03\x04rest of it", "ZIP archive"),
        (b"\xfd7zXZ\x00rest", "xz"),
        (b"BZh91AY", "bzip2"),
        (b"%PDF-1.7\n", "PDF"),
        (b"name".ljust(257, b"\0") + b"ustar  \0", "tar archive"),
        (gzip.compress(b"name".ljust(257, b"\0") + b"ustar  \0", mtime=0), "tar archive"),
    ],
)
def test_what_is_no_text_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "t.txt").write_bytes(data)
    with pytest.raises(TextError, match=said):
        read_texts(tmp_path / "t.txt")


def test_pointer_in_the_place_of_a_compressed_file_is_still_a_pointer(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl.gz").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n")
    with pytest.raises(TextError, match="Git-LFS pointer"):
        read_texts(tmp_path / "t.jsonl.gz")


# One reader for all


@pytest.mark.parametrize("name", ["t.txt", "t.JSONL", "t.ndjson.gz", "t.txt.zst"])
def test_a_corpus_is_read_as_any_other_file(tmp_path: Path, name: str) -> None:
    data = PLAIN if "txt" in name else JSON
    pack = {"gz": gzip.compress, "zst": zstd}.get(name.rsplit(".", 1)[-1], bytes)
    (tmp_path / name).write_bytes(pack(data))
    assert list(read_lines(tmp_path / name)) == [row.strip() for row in ROWS if row.strip()]


def test_blank_line_of_json_is_a_row_for_vectors_and_none_for_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n \n{"text": "b"}\n', "utf-8")
    with pytest.raises(TextError, match=r"line 2 of .* holds no text: it is blank"):
        read_texts(tmp_path / "t.jsonl")
    assert list(read_lines(tmp_path / "t.jsonl")) == ["a", "b"]


@pytest.mark.parametrize(
    "data", [PLAIN, gzip.compress(PLAIN, mtime=0), codecs.BOM_UTF16_LE + PLAIN.decode().encode("utf-16-le")]
)
def test_streams_are_read_alike_however_they_trickle(data: bytes) -> None:
    class Trickle(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            return super().read1(1 if size else 0)

    assert read_texts(Trickle(data)) == ROWS


def test_rows_that_have_no_text_do_not_stop_the_others(tmp_path: Path) -> None:
    lines = ['{"text": "a"}', "{", '{"body": "b"}', '{"text": 5}', "[" * 100_000, '{"text": "c"}']
    (tmp_path / "t.jsonl").write_text("\n".join(lines), "utf-8")
    rows = list(iterate_rows(tmp_path / "t.jsonl"))
    assert [row.text("text") for row in rows] == ["a", None, None, None, None, "c"]
    assert [row.text("body") for row in rows] == [None, None, "b", None, None, None]
    reasons = [row.why_no_text("text") for row in rows]
    assert "not JSON" in reasons[1]
    assert reasons[2] == "it has no 'text'"
    assert reasons[3] == "its 'text' is int, not a string"


def test_nothing_holds_the_whole_file(tmp_path: Path) -> None:
    """20 MB of lines that are compressed to nothing pass through a few megabytes."""
    with gzip.open(tmp_path / "t.txt.gz", "wb", compresslevel=1) as stream:
        for _ in range(20):
            stream.write(b"a line of some words\n" * 50_000)
    script = (
        "import sys, resource, itertools; from pathlib import Path\n"
        "from ringkas.text_files import iterate_texts\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(sum(map(len, iterate_texts(Path(sys.argv[1])))))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "t.txt.gz")], capture_output=True, text=True, check=True
    )
    characters, kilobytes = map(int, done.stdout.split())
    assert characters == 20 * 50_000 * 20
    assert kilobytes < 8_000


def test_a_format_is_one_row_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pairs(source: text_files.Source) -> object:
        stream: BinaryIO = source.stream
        return (text_files.Row({"text": line.decode().rstrip().upper()}) for line in stream)

    shouting = text_files.Format("shouts", pairs, endings=(".shout",), magic=b"!")  # type: ignore[arg-type]
    monkeypatch.setattr(text_files, "FORMATS", (shouting, *text_files.FORMATS))
    (tmp_path / "a.shout.gz").write_bytes(gzip.compress(b"by name\n", mtime=0))
    (tmp_path / "b.txt").write_bytes(b"! by content\n")
    assert read_texts(tmp_path / "a.shout.gz") == ["BY NAME"]
    assert read_texts(tmp_path / "b.txt") == ["! BY CONTENT"]


def test_missing_zstandard_gives_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t.zst").write_bytes(zstd(PLAIN))
    monkeypatch.setattr("ringkas.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"ringkas\[bulk\]"):
        read_texts(tmp_path / "t.zst")
