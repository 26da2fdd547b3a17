"""How a command ends when it is interrupted, its reader leaves, or its surroundings are odd."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

import ringkas
from ringkas.artifact import open_artifact, seal
from ringkas.cli import cli
from ringkas.commands.options import CLOSED_PIPE, INTERRUPTED

COMMAND = (sys.executable, "-m", "ringkas")


@pytest.fixture(scope="module")
def artifact(small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ringkas.build(small_checkpoint(), "onnx-fp32", tmp_path_factory.mktemp("dist")).path


# Exit statuses


def test_help_lists_every_exit_status() -> None:
    shown = CliRunner().invoke(cli, ["--help"]).output
    table = shown[shown.index("Exit status:") :]
    assert [line.split()[0] for line in table.splitlines()[1:7]] == ["0", "1", "2", "3", "130", "141"]


@pytest.mark.skipif(os.name == "nt", reason="no such signals there")
def test_interruption_is_130_and_one_line(artifact: Path) -> None:
    # In the background a shell has made the tests ignore Ctrl-C, and a child would inherit that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with subprocess.Popen(
        [*COMMAND, "embed", artifact],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        signal.signal(signal.SIGINT, before)
        assert process.stdin is not None
        process.stdin.write(b"a text\n" * 100)
        process.stdin.flush()
        wait_until_reading(process.pid)
        process.send_signal(signal.SIGINT)
        out, said = process.communicate()
    assert (process.returncode, out) == (INTERRUPTED, b"")
    assert said == b"ringkas: interrupted; nothing was left half-written\n"


def wait_until_reading(pid: int) -> None:
    """Until a thread of the process waits for more of its input."""
    import time

    for _ in range(1200):
        for thread in (Path("/proc") / str(pid) / "task").iterdir():
            if (thread / "syscall").read_text().startswith("0 0x0 "):  # read(0, ...)
                return
        time.sleep(0.05)
    pytest.fail("it never read its input")


@pytest.mark.skipif(os.name == "nt", reason="no such pipes there")
@pytest.mark.parametrize("lines", [1, 3000])
def test_closed_pipe_is_141_and_silent(artifact: Path, tmp_path: Path, lines: int) -> None:
    (tmp_path / "texts.txt").write_text("a\n" * lines, "utf-8")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "embed", artifact, "--input", tmp_path / "texts.txt"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert done.returncode == CLOSED_PIPE
    assert b"Traceback" not in done.stderr
    assert b"roken pipe" not in done.stderr


# Surroundings


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_is_utf8_whatever_the_locale(artifact: Path, tmp_path: Path, encoding: str) -> None:
    place = Path(shutil.copytree(artifact, tmp_path / "product"))
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    seal(place, msgspec.structs.replace(open_artifact(place).manifest, name="이름"))
    done = subprocess.run(
        [*COMMAND, "inspect", place, "--json"], capture_output=True, env=environment, check=True
    )
    assert json.loads(done.stdout.decode("utf-8"))["manifest"]["name"] == "이름"
    table = subprocess.run([*COMMAND, "inspect", place], capture_output=True, env=environment, check=True)
    assert b"onnx-fp32" in table.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_name_that_is_not_utf8_is_one_line_or_works(artifact: Path, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/na\xffme"))
    shutil.copytree(artifact, odd)
    (odd / "texts.txt").write_text("a\nb\n", "utf-8")
    for command in (
        ["inspect", odd],
        ["embed", odd],
        ["build", odd, "--target", "onnx-fp32", "--out", tmp_path],
    ):
        done = subprocess.run([*COMMAND, *command], capture_output=True, input=b"a\n", check=False)
        assert done.returncode == 2, done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert b"is not UTF-8. Rename it." in done.stderr
    done = subprocess.run(
        [*COMMAND, "embed", artifact, "--input", odd / "texts.txt"], capture_output=True, check=True
    )
    assert len(done.stdout.splitlines()) == 2


@pytest.mark.parametrize("output", ["absent/vectors.npy", "vectors.csv"])
def test_output_that_cannot_be_written_is_said_before_anything_is_read(tmp_path: Path, output: str) -> None:
    command = ["embed", "no artifact", "--input", "no input", "--output", str(tmp_path / output)]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == 2
    assert "vectors" in result.stderr
    assert "no artifact" not in result.stderr


def test_home_folder_by_its_sign(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copytree(artifact, tmp_path / "dist")
    (tmp_path / "texts.txt").write_text("a\n", "utf-8")
    done = CliRunner().invoke(cli, ["embed", "~/dist", "--input", "~/texts.txt", "--output", "~/vectors.npy"])
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "vectors.npy").is_file()
    with ringkas.load("~/dist") as encoder:
        assert encoder.encode("a").shape == (32,)


# A folder that is called as the built-in checkpoint is


def test_artifact_called_demo_is_that_artifact(
    small_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = ringkas.build(small_checkpoint(), "pytorch-fp32", tmp_path / "dist").path
    built.rename(tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    with ringkas.load("demo") as encoder:
        assert encoder.encode("a text").shape == (32,)
    assert CliRunner().invoke(cli, ["verify", "demo"]).exit_code == 0


def test_checkpoint_called_demo(
    small_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small_checkpoint(), tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert ringkas.open_checkpoint("./demo").spec.dimension == 32
    assert ringkas.open_checkpoint(Path("demo")).spec.dimension == 32
    assert ringkas.open_checkpoint("demo").spec.dimension == 384
    assert ringkas.open_checkpoint(Path("demo")).name == "demo"


# Files that are not what they seem


def test_pointer_in_the_place_of_a_file_is_named(artifact: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(artifact, tmp_path / "a"))
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"
    (place / "onnx" / "model.onnx").write_bytes(pointer)
    result = CliRunner().invoke(cli, ["inspect", str(place)])
    assert result.exit_code == 2
    assert "model.onnx cannot be read: it is a Git-LFS pointer" in result.stderr


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_pointer_in_a_checkpoint_is_named(
    small_checkpoint: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    place = Path(shutil.copytree(small_checkpoint(), tmp_path / "a"))
    (place / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    with pytest.raises(ringkas.RingkasError, match=rf"{name} cannot be read: it is a Git-LFS pointer"):
        ringkas.open_checkpoint(place)
