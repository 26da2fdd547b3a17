"""`ringkas bench` from the command line: files written, two results judged, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from ringkas.cli import cli


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["bench", *map(str, arguments)], prog_name="ringkas")


@pytest.fixture(scope="module")
def measured(demo_artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    (folder / "texts.txt").write_text("how do I reset my password?\nwhere is it?\n", "utf-8")
    result = run(
        demo_artifacts / "onnx-fp32", "--rounds", 3, "--threads", 1, "--texts", folder / "texts.txt",
        "--json", folder / "result.json", "--html", folder / "page.html", "--markdown", folder / "tables.md",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "One text at a time" in result.stdout
    return folder


def altered(measured: Path, **changes: Any) -> Path:
    """A copy of the result with its first row's rounds multiplied, or other fields replaced."""
    result = json.loads((measured / "result.json").read_text("utf-8"))
    slower = changes.pop("slower", 1)
    for timing in result["rows"][0]["measured"]["timings"]:
        timing["rounds"] = [slower * milliseconds for milliseconds in timing["rounds"]]
    # What the rounds differ by chance is no part of this test.
    for timing in result["rows"][0]["measured"]["timings"]:
        timing["rounds"] = [timing["rounds"][0] * (1 + share / 100) for share in range(3)]
    result["ceiling"]["control_rounds"] = [1.0, 1.01, 1.02]
    file = measured / f"altered-{slower}-{len(changes)}.json"
    file.write_text(json.dumps(result | changes), "utf-8")
    return file


def test_every_file_is_written(measured: Path) -> None:
    result = json.loads((measured / "result.json").read_text("utf-8"))
    assert result["schema_version"] == 2
    assert [row["measured"]["name"] for row in result["rows"]] == ["onnx-fp32"]
    assert (measured / "page.html").read_text("utf-8").startswith("<!doctype html>")
    assert "| onnx-fp32 |" in (measured / "tables.md").read_text("utf-8")


def test_a_slowdown_exits_with_1_and_none_with_0(measured: Path) -> None:
    before = altered(measured)
    worse = run("--compare", before, altered(measured, slower=1.5))
    assert worse.exit_code == 1
    assert "SLOWER" in worse.stdout
    assert worse.stdout.rstrip().endswith("Slower.")
    for other in (before, altered(measured, slower=0.7)):
        same = run("--compare", before, other)
        assert same.exit_code == 0
        assert "No slowdown beyond chance." in same.stdout


def test_a_comparison_is_written_as_json(measured: Path, tmp_path: Path) -> None:
    files, place = (altered(measured), altered(measured, slower=1.5)), tmp_path / "comparison.json"
    written = run("--compare", *files, "--json", place)
    assert written.exit_code == 1
    assert "SLOWER" in written.stdout
    comparison = json.loads(place.read_text("utf-8"))
    assert {change["slower"] for change in comparison["changes"]} == {True}
    assert comparison["fidelity_lost"] == []
    printed = run("--compare", *files, "--json", "-")
    assert printed.exit_code == 1
    assert json.loads(printed.stdout) == comparison


@pytest.mark.parametrize("language", ["fr", "englsh"])
def test_a_language_without_texts_is_refused(demo_artifacts: Path, language: str) -> None:
    refused = run(demo_artifacts / "onnx-fp32", "--language", language)
    assert refused.exit_code == 2
    assert f"there are no built-in texts of the language '{language}'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_results_of_other_texts_are_not_compared(measured: Path) -> None:
    refused = run("--compare", altered(measured), altered(measured, texts_sha256="0"))
    assert refused.exit_code == 2
    assert "different texts" in refused.stderr


@pytest.mark.parametrize(("arguments", "reason"), [
    ((), "Name an artifact, a server with --url, or two results with --compare"),
    (("somewhere", "--compare", "a.json", "b.json"), "name no artifact beside it"),
    (("--compare", "a.json", "b.json"), "cannot read a.json"),
    (("--compare", "a.json", "b.json", "--json", "absent/c.json"), "there is no folder absent"),
    (("--compare", "a.json", "b.json", "--html", "page.html"), "writes no page"),
    (("somewhere", "--html", "absent/page.html"), "there is no folder absent"),
    (("somewhere", "--texts", "absent.txt"), "cannot read absent.txt"),
    (("somewhere", "--scenario", "odd"), "'odd' is not one of"),
])  # fmt: skip
def test_bad_usage_is_one_line(arguments: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert len(result.stderr.splitlines()) == 1
