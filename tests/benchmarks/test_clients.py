"""The table of clients: the guide has the file's, a client that differs is seen, and each client itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from attack.subjects import first_layers
from clients.cases import Case
from clients.measure import Row, Subject, compare, measure
from clients.rows import CLIENTS, NEAR, Client
from clients.servers import LLAMA_SERVER
from clients.table import RESULTS, read_rows, stated, table, write_guide
from peers.environments import ENVIRONMENTS

from ringkas import build_all, open_checkpoint
from ringkas.export.build import BuildOptions

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "benchmarks" / "clients"

# The small model here has a WordPiece tokenizer, whose normalizer takes Hangul apart: llama.cpp's does not.
WORD_PIECE = dict.fromkeys(("Korean", "query prompt", "document prompt"), "llama.cpp keeps Hangul whole")


def test_the_guide_s_table_is_the_file_s(tmp_path: Path) -> None:
    page = ROOT / "docs" / "clients.md"
    assert stated(page).strip() == table(read_rows()).strip()
    copy = tmp_path / "clients.md"
    shutil.copyfile(page, copy)
    rows = read_rows()
    rows[0]["least"] = 0.5
    write_guide(copy, rows)
    assert "0.500000" in stated(copy)
    assert stated(page) != stated(copy)


def test_every_row_agrees_or_says_who_differs() -> None:
    for row in read_rows():
        assert row["failed"] == "" or row["least"] is None, row
        assert row["least"] is None or row["least"] >= row["bound"] >= NEAR, row
        assert row["least"] is not None or row["failed"], row
    assert json.loads(RESULTS.read_text("utf-8"))["made"]["commit"]


def test_every_client_has_its_environment_and_its_script() -> None:
    names = [client.name for client in CLIENTS]
    assert len(names) == len(set(names))
    for client in CLIENTS:
        assert client.environment == "" or client.environment in ENVIRONMENTS
        assert (SCRIPTS / client.script[0]).is_file()


class Answered:
    """A subject with two kinds of text and vectors of its own."""

    cases = (Case("English", "encode", "", "a"), Case("NFD", "encode", "", "b"))
    expected = np.eye(2, 4, dtype=np.float32)


@pytest.mark.parametrize(
    ("rows", "failed", "differs"),
    [
        ([[1, 0, 0, 0], [0, 2, 0, 0]], "", []),
        ([[1, 0, 0, 0], [0, 1, 1, 0]], "", ["NFD"]),
        ([[0, 1, 0, 0], [0, 1, 0, 0]], "English: 0.000000", []),
        ([[1, 0, 0], [0, 1, 0, 0]], "English: no vector of 4 numbers", []),
        ([[float("nan")] * 4, [0, 1, 0, 0]], "English: no vector of 4 numbers", []),
        (["ValueError: too long", [0, 1, 0, 0]], "English: ValueError: too long", []),
        ([[1, 0, 0, 0], "it refuses"], "", ["NFD"]),
    ],
)
def test_what_differs_is_seen(rows: list[Any], failed: str, differs: list[str]) -> None:
    client = Client("one", "call", "", ("run_optimum.py",), ("onnx-fp32",), {"NFD": "it composes"})
    found = compare(client, "onnx-fp32", Answered(), {"versions": {"one": "1"}, "rows": rows})  # type: ignore[arg-type]
    assert found.failed.startswith(failed)
    assert bool(found.failed) == bool(failed)
    assert list(found.differs) == differs


def test_a_row_for_each_text_is_demanded() -> None:
    client = Client("one", "call", "", ("run_optimum.py",), ("onnx-fp32",))
    with pytest.raises(ValueError, match="shorter"):
        compare(client, "onnx-fp32", Answered(), {"versions": {}, "rows": [[1, 0, 0, 0]]})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's first two layers with prompts, as every target that a client loads."""
    folder = tmp_path_factory.mktemp("clients")
    first_layers(folder / "checkpoint")
    prompts = {"prompts": {"query": "query: ", "passage": "passage: "}}
    (folder / "checkpoint" / "config_sentence_transformers.json").write_text(json.dumps(prompts), "utf-8")
    targets = dict.fromkeys(target for client in CLIENTS for target in client.targets)
    build_all(
        open_checkpoint(folder / "checkpoint"), list(targets), folder / "dist", BuildOptions(witness=False)
    )
    return folder / "dist"


@pytest.fixture(scope="module")
def subjects(dist: Path) -> Callable[[str], Subject]:
    """The subject of a target, made once."""
    return cache(lambda target: Subject(dist, target))


def pairs() -> Iterator[Any]:
    for client in CLIENTS:
        for target in client.targets:
            yield pytest.param(client, target, id=f"{client.name}-{target}".replace(" ", "_"))


@pytest.mark.clients
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("client", "target"), list(pairs()))
def test_it_gives_the_facade_s_vectors(
    client: Client, target: str, subjects: Callable[[str], Subject]
) -> None:
    if client.missing:
        pytest.skip(client.missing)
    if client.needs == "named" and shutil.which("npm") is None:
        pytest.skip("npm is not here: apt install npm")
    if "{chromium}" in client.script and shutil.which("chromium") is None:
        pytest.skip("Chromium is not here: apt install chromium")
    if client.server == "llama-server" and not LLAMA_SERVER.is_file():
        pytest.skip("not compiled: make .peers/llama-server/bin/llama-server")
    if target.startswith("gguf-"):
        client = replace(client, differs={**client.differs, **WORD_PIECE})
    row: Row = measure(client, subjects(target))
    assert row.failed == ""
    assert row.least is not None
    assert row.least >= row.bound
