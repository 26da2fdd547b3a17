"""What is kept is what was computed: never stale, never damaged, never more than was allowed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from ringkas import cache
from ringkas.cli import cli
from ringkas.errors import RingkasError

KEY = "0" * 64


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, of at most a megabyte."""
    monkeypatch.setenv("RINGKAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RINGKAS_CACHE_MB", "1")
    return tmp_path / "cache" / "kept"


def test_what_was_kept_is_found() -> None:
    assert cache.find("reference", KEY) is None
    cache.keep("reference", KEY, b"vectors")
    assert cache.find("reference", KEY) == b"vectors"
    assert cache.find("reference", "1" * 64) is None
    assert cache.find("other", KEY) is None


@pytest.mark.parametrize("place", [0, 31, 32, -1])
def test_a_damaged_entry_is_not_used_and_replaced(folder: Path, place: int) -> None:
    cache.keep("reference", KEY, b"vectors")
    (file,) = folder.iterdir()
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    assert cache.find("reference", KEY) is None
    cache.keep("reference", KEY, b"vectors")
    assert cache.find("reference", KEY) == b"vectors"


@pytest.mark.parametrize("length", [0, 31, 32, 38])
def test_a_cut_entry_is_not_used(folder: Path, length: int) -> None:
    cache.keep("reference", KEY, b"vectors")
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes()[:length])
    assert cache.find("reference", KEY) is None


def test_what_a_killed_run_left_is_swept(folder: Path) -> None:
    cache.keep("reference", KEY, b"vectors")
    left = folder / ".scratch.partial-999999999-0"
    left.mkdir()
    (left / "entry").write_bytes(b"half")
    cache.keep("reference", "1" * 64, b"vectors")
    assert [entry.kind for entry in cache.entries()] == ["reference", "reference"]
    assert not left.exists()


def test_the_least_recently_used_go_first(folder: Path) -> None:
    for number in range(4):
        cache.keep("reference", f"{number:064}", bytes([number]) * 300_000)
        for age, file in enumerate(sorted(folder.iterdir(), reverse=True)):
            os.utime(file, (1_000_000 - age, 1_000_000 - age))
        if number == 2:
            assert cache.find("reference", f"{0:064}")  # used just now, so 1 is the oldest
    found = [number for number in range(4) if cache.find("reference", f"{number:064}") is not None]
    assert found == [0, 2, 3]


def test_what_is_larger_than_all_may_be_is_not_kept(folder: Path) -> None:
    cache.keep("reference", KEY, bytes(300_000))
    cache.keep("reference", "1" * 64, bytes(1_000_001))
    assert [entry.bytes for entry in cache.entries()] == [300_032]


def test_with_zero_nothing_is_kept_or_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.keep("reference", KEY, b"vectors")
    monkeypatch.setenv("RINGKAS_CACHE_MB", "0")
    assert cache.find("reference", KEY) is None
    cache.keep("reference", "1" * 64, b"vectors")
    assert len(list(folder.iterdir())) == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_keeps_nothing(folder: Path) -> None:
    folder.parent.mkdir()
    folder.parent.chmod(0o500)
    cache.keep("reference", KEY, b"vectors")
    assert cache.find("reference", KEY) is None


def test_a_file_in_the_folder_s_place_keeps_nothing(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("mine")
    cache.keep("reference", KEY, b"vectors")
    assert cache.find("reference", KEY) is None
    assert folder.read_text() == "mine"


def test_the_key_follows_every_fact_and_every_library(monkeypatch: pytest.MonkeyPatch) -> None:
    key = cache.key_of("reference", {"languages": ("ko",)})
    assert key == cache.key_of("reference", {"languages": ("ko",)})
    assert key != cache.key_of("reference", {"languages": ("ko", "en")})
    monkeypatch.setattr(cache, "tool_versions", lambda: {"torch": "0"})
    assert key != cache.key_of("reference", {"languages": ("ko",)})


@pytest.mark.parametrize("name", ["ONEDNN_DEFAULT_FPMATH_MODE", "CUDA_VISIBLE_DEVICES"])
def test_the_key_follows_what_the_libraries_are_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = cache.key_of("reference")
    monkeypatch.setenv(name, "BF16")
    assert key != cache.key_of("reference")


def test_the_key_follows_this_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "ringkas"
    package.mkdir()
    for name in ("cache.py", "pooling.py"):
        (package / name).write_text(name)
    monkeypatch.setattr(cache, "__file__", str(package / "cache.py"))
    keys = []
    for text in ("mean", "maximum"):
        (package / "pooling.py").write_text(text)
        keys.append(cache.key_of("reference"))
    assert len(set(keys)) == 2


def test_a_folder_s_digest_follows_names_and_contents(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "1_Pooling").mkdir(parents=True)
    (model / "1_Pooling" / "config.json").write_text("{}")
    (model / "weights").write_bytes(b"one")
    first = cache.folder_digest(model)
    shutil.copytree(model, tmp_path / "moved")
    (tmp_path / "moved" / ".git").write_text("hidden")
    assert cache.folder_digest(tmp_path / "moved") == first
    (tmp_path / "moved" / "weights").write_bytes(b"two")
    assert cache.folder_digest(tmp_path / "moved") != first
    (model / "weights").rename(model / "other")
    assert cache.folder_digest(model) != first


def test_a_folder_s_digest_follows_links(tmp_path: Path) -> None:
    for name in ("dense", "model"):
        (tmp_path / name).mkdir()
    (tmp_path / "dense" / "weights").write_bytes(b"one")
    (tmp_path / "model" / "2_Dense").symlink_to(tmp_path / "dense")
    (tmp_path / "model" / "round").symlink_to(tmp_path / "model")  # and does not go round
    (tmp_path / "model" / "nowhere").symlink_to(tmp_path / "missing")
    first = cache.folder_digest(tmp_path / "model")
    (tmp_path / "dense" / "weights").write_bytes(b"another")
    assert cache.folder_digest(tmp_path / "model") != first


def test_a_folder_s_digest_is_not_of_what_was_built_in_it(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"one")
    first = cache.folder_digest(tmp_path)
    built = tmp_path / "dist" / "onnx-fp32"
    built.mkdir(parents=True)
    (built / "ringkas.json").write_text("{}")
    (built / "vectors").write_text("many")
    (tmp_path / "pytorch_model.bin").write_bytes(b"the same in another format")
    assert cache.folder_digest(tmp_path) == first


def test_a_cache_that_may_only_be_read_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError

    cache.keep("reference", KEY, b"vectors")
    (folder / "a folder.bin").mkdir()
    monkeypatch.setattr(os, "utime", refused)
    monkeypatch.setattr(Path, "unlink", refused)
    assert cache.find("reference", KEY) == b"vectors"
    assert len(cache.entries()) == 1
    assert cache.clear() == []


def test_without_a_home_folder_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGKAS_CACHE", "~nobody-of-that-name/cache")
    cache.keep("reference", KEY, b"vectors")
    assert cache.find("reference", KEY) is None
    assert cache.entries() == []


def test_the_command_shows_and_clears(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache.keep("reference", KEY, b"vectors")
    (folder.parent / "demo-e5-1").mkdir()
    assert "reference" in _run(["cache"], capsys)
    shown = json.loads(_run(["cache", "--json"], capsys))
    assert [(row["kind"], row["bytes"]) for row in shown["kept"]] == [("reference", 39)]
    assert len(json.loads(_run(["cache", "--clear", "--json"], capsys))["cleared"]) == 1
    assert cache.entries() == []
    assert (folder.parent / "demo-e5-1").is_dir()


def test_a_bound_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RINGKAS_CACHE_MB", "much")
    with pytest.raises(RingkasError, match="not a whole number"):
        cache.find("reference", KEY)


def _run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    cli(arguments, standalone_mode=False)
    return capsys.readouterr().out
