"""The server under load: one client, then many at once, beside the facade's own rate on the same texts.

    python benchmarks/serve_load.py dist/onnx-int8 --clients 64 --seconds 20 --json FILE

Server and clients share the machine: the share of its processor time that the clients took is told, and the
rate is also given as it would be without them. What a single request costs over `encode` is measured in
turns, some of the one, some of the other, since a shared machine's speed wanders.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

from ringkas import texts as text_sets
from ringkas.runtimes.measure.http_client import Connections, Server, body_of, first_model, vectors_in
from ringkas.runtimes.measure.machine import cpu_seconds

FACADE = """
import json, sys, time
import numpy as np
import ringkas
texts = json.loads(sys.stdin.readline())
with ringkas.load(sys.argv[1], threads=int(sys.argv[3]) or None) as encoder:
    tokens = sum(map(len, encoder.tokenizer.encode(texts)))
    encoder.encode(texts)
    rounds, until, spent = [], time.perf_counter() + float(sys.argv[2]), time.process_time()
    while time.perf_counter() < until:
        started = time.perf_counter()
        encoder.encode(texts * 8)
        rounds.append(8 * len(texts) / (time.perf_counter() - started))
    spent = time.process_time() - spent
    found = {"texts_per_s": float(np.median(rounds)), "tokens_per_text": tokens / len(texts)}
    found["cpu_ms_per_text"] = 1e3 * spent / (8 * len(texts) * len(rounds))
    print(json.dumps(found), flush=True)
    for line in sys.stdin:
        seconds = []
        for text in json.loads(line):
            started = time.perf_counter()
            encoder.encode(text)
            seconds.append(time.perf_counter() - started)
        print(json.dumps(seconds), flush=True)
"""
_TURNS, _IN_A_TURN = 20, 40


class Facade:
    """`encode` in a process of its own: its rate on all texts, then single texts when they are asked for."""

    def __init__(self, options: argparse.Namespace, texts: list[str]) -> None:
        command = [sys.executable, "-c", FACADE, str(options.artifact), str(options.seconds / 2)]
        command.append(str(options.threads))
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.rate: dict[str, Any] = self.ask(texts)

    def ask(self, texts: list[str]) -> Any:
        """What the process answers: at first its rate, then the seconds of each text alone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(texts), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--url", help="another server that runs already, instead of ringkas serve")
    parser.add_argument("--words", type=int, default=22, help="of a text: about 30 tokens")
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    texts = list(thirty_tokens(options.words))
    facade = Facade(options, texts)
    found: dict[str, Any] = {"artifact": options.artifact.name, "facade": facade.rate}
    if options.url:
        found |= asyncio.run(drive(options.url, None, texts, options, facade))
    else:
        command = [sys.executable, "-m", "ringkas", "serve", str(options.artifact), "--port", "0"]
        command += ["--threads", str(options.threads)] if options.threads else []
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            url = next(match[1] for line in process.stderr if (match := re.search(r"on (http://\S+)", line)))
            found |= asyncio.run(drive(url, process.pid, texts, options, facade))
            process.terminate()
    facade.close()
    many, cores = found["many"], os.cpu_count() or 1
    share = many["clients_cpu_s"] / (cores * many["seconds"])
    many["without_clients_texts_per_s"] = many["texts_per_s"] / (1 - share)
    many["of_facade"] = many["without_clients_texts_per_s"] / facade.rate["texts_per_s"]
    if "server_cpu_s" in many:
        many["server_cpu_ms_per_text"] = 1e3 * many["server_cpu_s"] / many["seconds"] / many["texts_per_s"]
        many["of_facade_by_cpu"] = facade.rate["cpu_ms_per_text"] / many["server_cpu_ms_per_text"]
    write_result(options.json, found)
    print(json.dumps({name: found[name] for name in ("facade", "one", "many")}, indent=1))


def thirty_tokens(words: int) -> list[str]:
    """Runs of so many words of the built-in English texts."""
    every = " ".join([*text_sets.probe(["en"])["en"], *text_sets.calibration(["en"])["en"]]).split()
    return [" ".join(every[start : start + words]) for start in range(0, len(every) - words, words)]


async def drive(
    url: str, pid: int | None, texts: list[str], options: argparse.Namespace, facade: Facade
) -> dict[str, Any]:
    """One client, then many; and whether batched answers are those of single requests."""
    connections = Connections(Server(url))
    model = await first_model(connections)
    ready = [connections.server.request("embeddings", body_of(text, model)) for text in texts]
    one = await in_turns(connections, ready, texts, facade)
    spent = None if pid is None else cpu_seconds(pid)
    many = await closed_loop(connections, ready, options.clients, options.seconds)
    if pid is not None and spent is not None:
        many["server_cpu_s"] = (cpu_seconds(pid) or 0.0) - spent
    alone = [vectors_in(*await connections.send(request))[0] for request in ready[:32]]
    together = await asyncio.gather(*(connections.send(request) for request in ready[:32]))
    worst = max(
        float(np.abs(np.subtract(left, vectors_in(*right)[0])).max())
        for left, right in zip(alone, together, strict=True)
    )
    await connections.close()
    return {"one": one, "many": many, "largest_difference_of_batched_answers": worst}


async def in_turns(
    connections: Connections, ready: list[bytes], texts: list[str], facade: Facade
) -> dict[str, float]:
    """Milliseconds at p50 of one request, of `encode`, and of their difference over the turns."""
    requests, encodes, differences = list[float](), list[float](), list[float]()
    for turn in range(_TURNS):
        chosen = [(turn * _IN_A_TURN + place) % len(texts) for place in range(_IN_A_TURN)]
        served = []
        for place in chosen:
            begun = time.perf_counter()
            await connections.send(ready[place])
            served.append(time.perf_counter() - begun)
        encoded = facade.ask([texts[place] for place in chosen])
        requests += served
        encodes += encoded
        differences.append(float(np.median(served) - np.median(encoded)))
    return {
        "request_p50_ms": 1e3 * float(np.median(requests)),
        "encode_p50_ms": 1e3 * float(np.median(encodes)),
        "overhead_p50_ms": 1e3 * float(np.median(differences)),
    }


async def closed_loop(
    connections: Connections, ready: list[bytes], clients: int, seconds: float
) -> dict[str, Any]:
    """Each client sends its next text when it has its answer."""
    latencies: list[float] = []
    failed = 0
    started, spent = time.perf_counter(), time.process_time()

    async def client(number: int) -> None:
        nonlocal failed
        while (begun := time.perf_counter()) < started + seconds:
            status, _ = await connections.send(ready[number % len(ready)])
            number += clients
            if status == 200:
                latencies.append(time.perf_counter() - begun)
            else:
                failed += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    took = time.perf_counter() - started
    p50, p99 = np.percentile(latencies, (50, 99)) * 1e3
    return {
        "clients": clients, "seconds": took, "texts_per_s": len(latencies) / took, "p50_ms": float(p50),
        "p99_ms": float(p99), "failed": failed, "clients_cpu_s": time.process_time() - spent,
    }  # fmt: skip


if __name__ == "__main__":
    main()
