"""A real server in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import ringkas
from ringkas.artifact import Artifact

Running = Callable[..., AbstractContextManager[tuple[str, subprocess.Popen[str]]]]


@pytest.fixture(scope="session")
def served_artifact(
    small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    """A random BERT of one layer, as ONNX, with prompts; 64 tokens at most."""
    prompts = {"query": "query: ", "passage": "passage: "}
    checkpoint = small_checkpoint(max_length=64, prompts=prompts)
    return ringkas.build(checkpoint, "onnx-fp32", tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def running() -> Running:
    """Serves artifacts on a free port while a block runs; see `_running`."""
    return _running


@contextmanager
def _running(*arguments: object, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`ringkas serve` on a free port: its address and its process."""
    command = [
        sys.executable,
        "-m",
        "ringkas",
        "serve",
        *map(str, arguments),
        "--port",
        "0",
        "--threads",
        "1",
    ]
    environment = {**os.environ, **variables}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"on (http://\S+)", line):
                yield found[1], process
                break
        else:
            raise AssertionError("".join(said))
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stderr.close()


@pytest.fixture(scope="session")
def server(served_artifact: Artifact, running: Running) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with running(served_artifact.path) as found:
        yield found


@pytest.fixture(scope="session")
def address(server: tuple[str, subprocess.Popen[str]]) -> str:
    return server[0]
