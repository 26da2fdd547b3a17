"""The page in the browser: what it is made of, and what Chromium finds when it is played."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ringkas
from ringkas.errors import ArtifactError, RingkasError
from ringkas.export.demo_page import VENDORED, demo_page, find_packages
from ringkas.questions import questions
from ringkas.runtimes.parity.judge import cosine

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
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


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    servers: list[ThreadingHTTPServer] = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *values: Any) -> None:
            pass

    def start(folder: Path) -> str:
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.clients
@pytest.mark.parametrize("target", NEAR)
def test_chromium_searches_as_the_facade_does(
    target: str, tmp_path: Path, environments: ModuleType, serve: Callable[[Path], str]
) -> None:
    chromium = shutil.which("chromium")
    if chromium is None or shutil.which("npm") is None:
        pytest.skip("needs Chromium and npm: apt install chromium npm")
    artifact = ringkas.build("demo", target, tmp_path / "dist")
    page = demo_page(artifact, tmp_path / "site", packages=environments.interpreter("node"))
    asked = questions(["en"])["en"]
    texts = ["", "a short text", "emoji 🙂, Ünïcode", asked[0].passages[0]]
    plan = {
        "chromium": chromium,
        "queries": [one.query for one in asked[:4]],
        "vectors": texts,
        "lines": ["The cat sleeps on the sofa.", "The train leaves at nine.", "Boil the eggs."],
        "line_query": "when does the train depart",
    }
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    place = environments.interpreter("browser")
    shutil.copyfile(PEERS / "play_page.mjs", place / "play_page.mjs")
    command = ["node", "play_page.mjs", serve(page.path), str(tmp_path / "plan.json"), str(tmp_path)]
    done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["said"] == []
    assert found["outside"] == []
    right = [first in one.passages for first, one in zip(found["first"], asked, strict=False)]
    assert sum(right) >= 3, found["first"]
    assert found["first_line"] == plan["lines"][1]
    assert found["offline"] == found["first"][0]
    assert found["overflow"] <= 0
    assert found["labels"]
    assert found["focused"] == "use-lines"
    with ringkas.load(artifact) as encoder:
        expected = encoder.encode(texts)
    assert cosine(expected, np.array(found["vectors"], dtype=np.float32)).min() > NEAR[target]
