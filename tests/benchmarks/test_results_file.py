"""Every result says what made it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from results_file import MADE, made_line, write_result

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = sorted((REPOSITORY / "benchmarks" / "results").rglob("*.json"))


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.relative_to(REPOSITORY).as_posix())
def test_result_says_by_which_commit_and_when(file: Path) -> None:
    made = json.loads(file.read_text(encoding="utf-8"))[MADE]
    assert {"commit", "date", "machine"} <= set(made)


def test_mapping_and_list_get_the_same_heading(tmp_path: Path) -> None:
    for number, result in enumerate(({"value": 1}, [1, 2])):
        file = tmp_path / "new" / f"{number}.json"
        write_result(file, result)
        document = json.loads(file.read_text(encoding="utf-8"))
        made = document.pop(MADE)
        assert document == (result if isinstance(result, dict) else {"rows": result})
        assert made["machine"]["cores"] >= 1
        assert "numpy" in made["versions"]


def test_commit_is_the_one_that_git_names(tmp_path: Path) -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout")
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.strip()
    commit = made_line().split()[1].rstrip(",").rstrip("+")
    assert head.startswith(commit)
