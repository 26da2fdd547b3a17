"""Vectors to files: what was written reads back, and nothing is ever half there."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from ringkas.errors import TextError
from ringkas.runtimes.bulk.embedding import one_file
from ringkas.runtimes.bulk.writers import Kind, Layout, narrow, open_writer

VECTORS = np.random.default_rng(2).standard_normal((1000, 24)).astype(np.float32)


def written(kind: Kind, vectors: np.ndarray, chunk: int = 300) -> bytes:
    stream = io.BytesIO()
    writer = open_writer(stream, Layout(kind, vectors.shape[1]))
    for start in range(0, len(vectors), chunk):
        writer.write(vectors[start : start + chunk], range(start, start + chunk), None)
    writer.finish()
    return stream.getvalue()


@pytest.mark.parametrize("chunk", [1, 300, 1000])
@pytest.mark.parametrize("rows", [0, 1, 9, 10, 1000])
def test_npy_reads_back(rows: int, chunk: int) -> None:
    found = np.load(io.BytesIO(written("npy", VECTORS[:rows], chunk)), allow_pickle=False)
    assert (found.shape, found.dtype) == ((rows, 24), np.float32)
    np.testing.assert_array_equal(found, VECTORS[:rows])


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_jsonl_reads_back(rows: int) -> None:
    lines = written("jsonl", VECTORS[:rows]).splitlines()
    assert len(lines) == rows
    for line, vector in zip(lines, VECTORS, strict=False):
        np.testing.assert_allclose(json.loads(line), vector, atol=1e-8)


def test_stdout_gets_json_lines(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    with one_file(None) as stream:
        open_writer(stream, Layout("jsonl", 24)).write(VECTORS[:3], range(3), None)
    found = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    np.testing.assert_allclose(found, VECTORS[:3], atol=1e-8)


def test_int8_scales_bring_each_vector_back() -> None:
    vectors = np.concatenate([VECTORS, np.zeros((1, 24), np.float32), VECTORS[:1] * 1e-6])
    codes, scales = narrow(vectors, "int8")
    assert codes.dtype == np.int8
    assert scales is not None
    error = np.abs(codes * scales[:, None] - vectors).max(axis=1)
    assert (error <= np.abs(vectors).max(axis=1) / 127 / 2 + 1e-12).all()


def test_exception_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "vectors.npy"
    place.write_text("earlier", "utf-8")
    with pytest.raises(TypeError), one_file(place) as stream:
        stream.write("no bytes")  # type: ignore[arg-type]
    assert [file.name for file in tmp_path.iterdir()] == ["vectors.npy"]
    assert place.read_text("utf-8") == "earlier"


def test_file_appears_only_at_the_end(tmp_path: Path) -> None:
    place = tmp_path / "vectors.npy"
    with one_file(place) as stream:
        stream.write(b"whole")
        assert not place.exists()
    assert place.read_bytes() == b"whole"


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(TextError, match=r"cannot write .*vectors\.npy"),
        one_file(tmp_path / "no" / "vectors.npy"),
    ):
        pass
