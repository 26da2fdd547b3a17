"""Vectors to files: what was written reads back, and nothing is ever half there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ringkas.errors import TextError
from ringkas.runtimes.output import open_writer

VECTORS = np.random.default_rng(2).standard_normal((1000, 24)).astype(np.float32)


def write(place: Path | None, vectors: np.ndarray, chunk: int = 300, error: Exception | None = None) -> None:
    with open_writer(place, vectors.shape[1]) as writer:
        for start in range(0, len(vectors), chunk):
            writer.write(vectors[start : start + chunk])
        assert writer.rows == len(vectors)
        if error is not None:
            raise error


@pytest.mark.parametrize("chunk", [1, 300, 1000])
@pytest.mark.parametrize("rows", [0, 1, 9, 10, 1000])
def test_npy_reads_back(tmp_path: Path, rows: int, chunk: int) -> None:
    write(tmp_path / "vectors.npy", VECTORS[:rows], chunk)
    found = np.load(tmp_path / "vectors.npy", allow_pickle=False)
    assert (found.shape, found.dtype) == ((rows, 24), np.float32)
    np.testing.assert_array_equal(found, VECTORS[:rows])


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_jsonl_reads_back(tmp_path: Path, rows: int) -> None:
    write(tmp_path / "vectors.jsonl", VECTORS[:rows])
    lines = (tmp_path / "vectors.jsonl").read_text("utf-8").splitlines()
    assert len(lines) == rows
    for line, vector in zip(lines, VECTORS, strict=False):
        np.testing.assert_allclose(json.loads(line), vector, atol=1e-8)


def test_stdout_gets_json_lines(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write(None, VECTORS[:3])
    found = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    np.testing.assert_allclose(found, VECTORS[:3], atol=1e-8)


def test_wide_types_are_narrowed_to_float32(tmp_path: Path) -> None:
    write(tmp_path / "vectors.npy", VECTORS.astype(np.float64))
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), VECTORS)


@pytest.mark.parametrize("name", ["vectors", "vectors.txt", "vectors.npz", "vectors.NPY", ".npy"])
def test_other_endings_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(TextError, match=r"ends in neither \.npy nor \.jsonl"):
        write(tmp_path / name, VECTORS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.jsonl"])
def test_exception_leaves_what_was_there(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("earlier", "utf-8")
    with pytest.raises(ValueError, match="stop"):
        write(tmp_path / name, VECTORS, error=ValueError("stop"))
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text("utf-8") == "earlier"


@pytest.mark.parametrize("name", ["vectors.npy", "vectors.jsonl"])
def test_file_appears_only_at_the_end(tmp_path: Path, name: str) -> None:
    place = tmp_path / name
    with open_writer(place, 24) as writer:
        writer.write(VECTORS)
        assert not place.exists()
    assert place.exists()


def test_missing_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"cannot write .*vectors\.npy"):
        write(tmp_path / "absent" / "vectors.npy", VECTORS)
