"""Servers that a client talks to, each on a free port of this machine while a block runs."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from peers.environments import PEERS

PATIENCE = 300  # seconds until it answers, on a machine that does other things too
LLAMA_SERVER = PEERS / "llama-server" / "bin" / "llama-server"


@contextmanager
def serving(kind: str, model: Path, limit: int, python: Path) -> Iterator[str]:
    """The address of a server of `model`, a folder for ringkas and a GGUF file for the others.

    Raises:
        RuntimeError: it ended, or did not answer; what it said is in the message.
    """
    port = free_port()
    command, healthy = _command(kind, model, limit, python, port)
    with tempfile.TemporaryFile("w+") as said:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        process = subprocess.Popen(command, stdout=said, stderr=said, env=environment)
        try:
            _wait(process, f"http://127.0.0.1:{port}{healthy}", said)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _command(kind: str, model: Path, limit: int, python: Path, port: int) -> tuple[Sequence[str], str]:
    if kind == "ringkas":
        return [sys.executable, "-m", "ringkas", "serve", str(model), "--port", str(port)], "/health"
    if kind == "llama_cpp.server":
        sizes = [f"--{name}={limit}" for name in ("n_ctx", "n_batch", "n_ubatch")]
        module = [str(python), "-m", "llama_cpp.server", "--model", str(model), "--embedding=true"]
        return [*module, *sizes, f"--port={port}", "--host=127.0.0.1"], "/v1/models"
    # A text has to fit one physical batch.
    sizes = [word for name in ("-c", "-b", "-ub") for word in (name, str(limit))]
    options = ["--embeddings", "-np", "1", *sizes, "--port", str(port), "--host", "127.0.0.1"]
    return [str(find_llama_server()), "-m", str(model), *options], "/health"


def find_llama_server() -> Path:
    """The binary that `make .peers/llama-server/bin/llama-server` compiles.

    Raises:
        FileNotFoundError: it was not compiled.
    """
    if not LLAMA_SERVER.is_file():
        raise FileNotFoundError("llama-server is not compiled: make .peers/llama-server/bin/llama-server")
    return LLAMA_SERVER


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait(process: subprocess.Popen[bytes], url: str, said: IO[str]) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    said.seek(0)
    message = re.sub(r"\s+", " ", said.read())[-600:]
    raise RuntimeError(f"no server at {url}: {message}")
