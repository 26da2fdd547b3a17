"""The README's commands and code are executed as a reader would."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def run(arguments: list[str], folder: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        arguments, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_shell_blocks_run(folder: Path) -> None:
    assert blocks("bash")
    for block in blocks("bash"):
        run(["bash", "-euo", "pipefail", "-c", block], folder)


def test_python_blocks_run_after_them(folder: Path) -> None:
    assert blocks("python")
    for block in blocks("python"):
        run([sys.executable, "-W", "error", "-c", block], folder)
