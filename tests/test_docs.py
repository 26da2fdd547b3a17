"""The commands and code of the README and of the guide are executed as a reader would."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# The README first: the guide's pages go on with the artifacts that it makes.
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reader")


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, code) of a page's blocks that are meant to be executed, in order."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(bash|python)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run(language: str, code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = {"bash": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-W", "error", "-c"]}
    return subprocess.run(
        [*command[language], code],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_run(page: Path, folder: Path) -> None:
    for language, code in blocks(page):
        done = run(language, code, folder)
        assert done.returncode == 0, f"{code}\n{done.stderr}"


def test_readme_has_both_kinds_of_block() -> None:
    assert {language for language, _ in blocks(PAGES[0])} == {"bash", "python"}


def test_block_that_fails_is_seen(folder: Path) -> None:
    assert run("bash", "ringkas inspect nothing-there\n", folder).returncode == 2
    assert run("python", "assert False\n", folder).returncode == 1


def test_readme_fits_five_minutes() -> None:
    assert len(PAGES[0].read_text(encoding="utf-8").splitlines()) <= 150


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    named = set(
        re.findall(r"^  - .+: (\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    )
    assert named == {page.name for page in PAGES[1:]}


def test_command_line_reference_is_what_help_says() -> None:
    file = REPOSITORY / "docs" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (REPOSITORY / "docs" / "cli.md").read_text(encoding="utf-8")
    assert written == module.reference(), "run: python docs/reference.py"
    assert written.count("\n## ringkas ") == len(module.cli.commands)
