"""Pieces: what travels in loads comes out as it was, or the error names what is missing or damaged."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

GPU = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"
MANY = 200_000


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(GPU))
    return import_module("pieces")


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    chance = np.random.default_rng(1)
    folder = tmp_path / "from"
    (folder / "artifact" / "onnx").mkdir(parents=True)
    (folder / "artifact" / "onnx" / "model.onnx").write_bytes(chance.bytes(50_001))
    (folder / "artifact" / "ringkas.json").write_text("{}")
    (folder / "one.whl").write_bytes(chance.bytes(3 * MANY + 7))
    (folder / "exact.bin").write_bytes(chance.bytes(MANY))
    (folder / "empty.bin").touch()
    return [folder / name for name in ("one.whl", "exact.bin", "empty.bin", "artifact")]


def gathered(loads: list[Path], tmp_path: Path, but: tuple[int, ...] = ()) -> Path:
    """All loads but some in one folder, as they lie on the other machine."""
    there = tmp_path / "there"
    there.mkdir()
    for number, load in enumerate(loads):
        if number not in but:
            for file in load.iterdir():
                (there / file.name).write_bytes(file.read_bytes())
    return there


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_everything_comes_out_as_it_was(pieces: Any, sources: list[Path], tmp_path: Path) -> None:
    loads = pieces.pack(sources, tmp_path / "loads", MANY)
    assert len(loads) > 3
    for load in loads:
        assert sum(file.stat().st_size for file in load.glob("piece-*")) <= MANY
    pieces.unpack(gathered(loads, tmp_path), tmp_path / "out")
    assert files(tmp_path / "out") == files(tmp_path / "from")


def test_packing_again_leaves_nothing_of_the_old(pieces: Any, sources: list[Path], tmp_path: Path) -> None:
    pieces.pack(sources, tmp_path / "loads", 100_000)
    loads = pieces.pack(sources[1:2], tmp_path / "loads", MANY)
    assert sorted((tmp_path / "loads").iterdir()) == loads


def test_a_missing_load_is_named_by_what_lacks_it(pieces: Any, sources: list[Path], tmp_path: Path) -> None:
    loads = pieces.pack(sources, tmp_path / "loads", MANY)
    with pytest.raises(pieces.PiecesError, match=r"one\.whl lacks piece-0001"):
        pieces.unpack(gathered(loads, tmp_path, but=(1,)), tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_sources_of_which_nothing_travelled_are_left_out(
    pieces: Any, sources: list[Path], tmp_path: Path
) -> None:
    loads = pieces.pack([sources[1], sources[0]], tmp_path / "loads", MANY)
    pieces.unpack(gathered(loads[:1], tmp_path), tmp_path / "out")
    assert set(files(tmp_path / "out")) == {"exact.bin"}


@pytest.mark.parametrize("damage", ["flipped", "short", "long"])
def test_a_damaged_piece_is_named(pieces: Any, sources: list[Path], tmp_path: Path, damage: str) -> None:
    there = gathered(pieces.pack(sources, tmp_path / "loads", MANY), tmp_path)
    piece = there / "piece-0002"
    data = piece.read_bytes()
    changed = {"flipped": data[:-1] + bytes([data[-1] ^ 1]), "short": data[:-1], "long": data + b"x"}
    piece.write_bytes(changed[damage])
    with pytest.raises(pieces.PiecesError, match=r"one\.whl: piece-0002 is damaged"):
        pieces.unpack(there, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_commands(sources: list[Path], tmp_path: Path) -> None:
    script = [sys.executable, str(GPU / "pieces.py")]
    out = tmp_path / "loads"
    packing = [*script, "pack", *map(str, sources), "--out", str(out), "--load-mib", "1"]
    done = subprocess.run(packing, check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(out / "load-00")]
    unpacking = [*script, "unpack", str(out), "--out", str(tmp_path / "out")]
    subprocess.run(unpacking, check=True, capture_output=True)
    assert files(tmp_path / "out") == files(tmp_path / "from")
    gone = subprocess.run(
        [*script, "pack", "absent", "--out", str(out)], capture_output=True, text=True, check=False
    )
    assert (gone.returncode, gone.stderr.strip()) == (1, "there is no absent")
