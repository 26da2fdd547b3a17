"""The process that drives an OpenAI-like server while it is measured: worker.py's lines, over HTTP.

Its own processor time is part of the machine's: `serve` answers with it, so that it can be subtracted.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ringkas.errors import RingkasError
from ringkas.runtimes.measure.http_client import Connections, Server, body_of, first_model, vectors_in
from ringkas.runtimes.measure.worker_process import Answer, arrivals

_WARM_UP_CALLS = 20
_TEXTS_A_REQUEST = 64


def main() -> None:
    """Says that the server answers, and then answers each line of the input."""
    url, model = json.loads(json.loads(sys.argv[1])["model"])
    try:
        # Not in the arguments, which everybody on a machine may read.
        asyncio.run(_serve_lines(Server(url, model, os.environ.get("RINGKAS_API_KEY"))))
    except RingkasError as error:
        sys.exit(str(error))


async def _serve_lines(server: Server) -> None:
    connections = Connections(server)
    started = time.perf_counter()
    driver = _Driver(connections, server.model or await first_model(connections))
    await driver.encode(["first vector"])
    _say({"load_s": time.perf_counter() - started})
    texts_of: dict[str, Sequence[str]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "warm_up":
            texts_of[request["case"]] = request["texts"]
        texts = request.get("texts") or texts_of[request["case"]]
        _say(await driver.answer(texts, request))
    await connections.close()


class _Driver:
    def __init__(self, connections: Connections, model: str) -> None:
        self._connections, self._model = connections, model

    async def answer(self, texts: Sequence[str], request: Mapping[str, Any]) -> Answer:
        if request["do"] == "warm_up":
            await self._time(texts, _WARM_UP_CALLS, 1.5)
            return {}
        if request["do"] == "time":
            return {"samples": [{"total": one} for one in await self._time(texts, 10**9, request["seconds"])]}
        if request["do"] == "encode":
            vectors = np.array(await self.encode(texts), dtype="<f4")
            return {"vectors": base64.b64encode(vectors.tobytes()).decode("ascii"), "shape": vectors.shape}
        return await self._serve(texts, request)

    async def encode(self, texts: Sequence[str]) -> list[list[float]]:
        found: list[list[float]] = []
        for start in range(0, len(texts), _TEXTS_A_REQUEST):
            status, body = await self._send(texts[start : start + _TEXTS_A_REQUEST])
            found += vectors_in(status, body)
        return found

    async def _time(self, texts: Sequence[str], most: int, seconds: float) -> list[float]:
        """Seconds of single texts, one after the other."""
        durations: list[float] = []
        until = time.perf_counter() + seconds
        while len(durations) < 3 or (len(durations) < most and time.perf_counter() < until):
            started = time.perf_counter()
            status, body = await self._send(texts[len(durations) % len(texts)])
            durations.append(time.perf_counter() - started)
            if status != 200:
                vectors_in(status, body)
        return durations

    async def _serve(self, texts: Sequence[str], request: Mapping[str, Any]) -> Answer:
        """Single texts that arrive at random, each sent when it comes, whatever is still unanswered."""
        chance = np.random.default_rng(request["seed"])
        due = arrivals(chance, request["rate"], request["seconds"]).tolist()
        picked = chance.integers(0, len(texts), len(due)).tolist()
        ready = [self._connections.server.request("embeddings", body_of(text, self._model)) for text in texts]
        latencies: list[float] = []
        refused = 0
        spent = time.process_time()
        started = time.perf_counter()

        async def one(due_s: float, index: int) -> None:
            nonlocal refused
            status, _ = await self._connections.send(ready[index])
            if status == 200:
                latencies.append(time.perf_counter() - started - due_s)
            else:
                refused += 1

        tasks = []
        for due_s, index in zip(due, picked, strict=True):
            wait = due_s - (time.perf_counter() - started)
            if wait > 0:
                await asyncio.sleep(wait)
            tasks.append(asyncio.create_task(one(due_s, index)))
        left = max(0.1, 2 * request["seconds"] - (time.perf_counter() - started))
        _, unfinished = await asyncio.wait(tasks, timeout=left)
        for task in unfinished:
            task.cancel()
        await asyncio.gather(*unfinished, return_exceptions=True)
        return {
            "latencies": latencies,
            "unfinished": len(due) - len(latencies),
            "refused": refused,
            "cpu_s": time.process_time() - spent,
        }

    async def _send(self, texts: str | Sequence[str]) -> tuple[int, bytes]:
        request = self._connections.server.request("embeddings", body_of(texts, self._model))
        return await self._connections.send(request)


def _say(message: Answer) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
