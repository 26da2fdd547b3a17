"""The page in the browser: what it is made of, and what Chromium finds when it is played."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import page_in_chromium
import pytest
from page_in_chromium import plan, play
from peers.environments import interpreter

import ringkas
from ringkas.errors import ArtifactError, RingkasError
from ringkas.export.demo_page import VENDORED, demo_page, find_packages
from ringkas.questions import questions
from ringkas.runtimes.parity.judge import cosine

ROOT = Path(__file__).parents[2]
# Cosine of the browser's vectors with the facade's.
NEAR = {"onnx-int8": 0.999, "onnx-int4": 0.99}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files where npm's are: here only their places matter."""
    folder = tmp_path_factory.mktemp("npm")
    for name in VENDORED:
        (folder / "node_modules" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "node_modules" / name).write_text("//", encoding="utf-8")
    return folder


def test_the_folder_has_all_that_it_names(demo_artifacts: Path, packages: Path, tmp_path: Path) -> None:
    page = demo_page(demo_artifacts / "onnx-fp16", tmp_path / "site", packages=packages)
    script = (page.path / "offline.js").read_text("utf-8")
    kept = json.loads(script.split("const FILES = ")[1].split(";\n")[0])
    there = {file.relative_to(page.path).as_posix() for file in page.path.rglob("*") if file.is_file()}
    assert set(kept) == there - {"offline.js"} | {"./"}
    site = json.loads((page.path / "site.json").read_text("utf-8"))
    assert site["dtype"] == "fp32"  # the graph's own name in an artifact
    with ringkas.load(demo_artifacts / "onnx-fp16") as encoder:
        expected = encoder.encode_document(site["passages"])
    found = np.fromfile(page.path / "vectors.bin", dtype="<f4").reshape(len(site["passages"]), -1)
    assert cosine(expected, found).min() > 0.99999
    for file in page.path.glob("*.*"):
        if file.suffix in (".html", ".css", ".js"):
            assert not re.search(r"https?:|//\w", file.read_text("utf-8")), file
    assert page.other < 3e6


def test_what_does_not_run_in_a_browser_is_refused(
    demo_artifacts: Path, packages: Path, tmp_path: Path
) -> None:
    with pytest.raises(ArtifactError, match="does not run in a browser"):
        demo_page(demo_artifacts / "pytorch-fp32", tmp_path / "site", packages=packages)
    assert not (tmp_path / "site").exists()


def test_packages_that_are_not_there_are_named(packages: Path, tmp_path: Path) -> None:
    assert find_packages(packages) == packages / "node_modules"
    with pytest.raises(RingkasError, match=r"has no @huggingface/transformers.*npm install"):
        find_packages(tmp_path)


@pytest.mark.clients
@pytest.mark.parametrize("target", NEAR)
def test_chromium_searches_as_the_facade_does(target: str, tmp_path: Path) -> None:
    if shutil.which("chromium") is None or shutil.which("npm") is None:
        pytest.skip("needs Chromium and npm: apt install chromium npm")
    artifact = ringkas.build("demo", target, tmp_path / "dist")
    page = demo_page(artifact, tmp_path / "site", packages=interpreter("node"))
    asked = questions(["en"])["en"]
    texts = ["", "a short text", "emoji 🙂, Ünïcode", asked[0].passages[0]]
    steps = plan(asked, texts)
    found = play(page.path, steps, tmp_path)
    assert found["said"] == []
    assert found["outside"] == []
    right = [first in one.passages for first, one in zip(found["first"], asked, strict=False)]
    assert sum(right) >= 3, found["first"]
    assert found["first_line"] == steps["lines"][1]
    assert found["offline"] == found["first"][0]
    assert found["overflow"] <= 0
    assert found["labels"]
    assert found["focused"] == "use-lines"
    with ringkas.load(artifact) as encoder:
        expected = encoder.encode(texts)
    assert cosine(expected, np.array(found["vectors"], dtype=np.float32)).min() > NEAR[target]


def test_the_guide_s_table_is_the_file_s(tmp_path: Path) -> None:
    guide = ROOT / "docs" / "clients.md"
    rows = json.loads(page_in_chromium.RESULTS.read_text("utf-8"))["rows"]
    assert page_in_chromium.stated(guide).strip() == page_in_chromium.table(rows).strip()
    copy = Path(shutil.copyfile(guide, tmp_path / "clients.md"))
    page_in_chromium.write_guide(copy, [rows[0] | {"first_result_s": 99}])
    assert "99.0 s" in page_in_chromium.stated(copy)
    for row in rows:
        assert row["other_bytes"] <= 3e6
        assert row["console"] == row["outside"] == []
        assert row["offline"]
        assert row["cosine_with_facade_min"] > NEAR[row["target"]]
