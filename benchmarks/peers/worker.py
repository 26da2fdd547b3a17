"""A peer in a process of its own: a JSON line in, a JSON line out (other side: runtimes/measure/worker.py).

Runs in the peers' environments: the standard library and NumPy only. A runner says how its peer is opened:

    serve(open_encoder, packages=("onnxruntime",))

`open_encoder(model, threads)` returns the peer's `encode(texts) -> float32 array (n, dimension)`, rows of
length 1. The process's last argument is {"model": PATH, "threads": N or null}. Requests:

    {"do": "warm_up", "case": NAME, "texts": [...], "each": BOOL}   until steady; remembers the texts
    {"do": "time", "case": NAME, "seconds": S, "each": BOOL}        {"samples": [{"total": seconds}, ...]}
    {"do": "encode", "texts": [...]}                                {"vectors": base64, "shape": [n, d]}
    {"do": "serve", "case": NAME, "rate": R, "seconds": S, "seed": N}
                                                    {"latencies": [seconds, ...], "unfinished": N}
    {"do": "memory"}                                                {"peak_bytes": N}

With `each` a call encodes one text, else all of them. To serve is to have the case's texts arrive at random,
R a second, and to encode with each call all that wait.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from itertools import cycle
from pathlib import Path
from typing import Any, TextIO

import numpy as np

Encode = Callable[[list[str]], np.ndarray]

# Warm when two windows of this many calls agree to 5%, or when the time is up.
_WINDOW, _STEADY, _WARM_UP_SECONDS = 5, 0.05, 1.5
_FEWEST = 3
# Texts that a server puts into one call, when so many wait.
_SERVED_AT_ONCE = 64


def serve(open_encoder: Callable[[str, int | None], Encode], packages: Sequence[str]) -> None:
    """Loads the model, says so, and answers requests until the input ends."""
    answers = _take_stdout()
    spec = json.loads(sys.argv[-1])
    started = time.perf_counter()
    encode = open_encoder(spec["model"], spec["threads"])
    encode(["first vector"])
    ready = {
        "load_s": time.perf_counter() - started,
        "versions": {name: metadata.version(name) for name in packages},
        "threads": spec["threads"],
    }
    print(json.dumps(ready), file=answers, flush=True)
    cases: dict[str, list[str]] = {}
    for line in sys.stdin:
        print(json.dumps(_answer(encode, json.loads(line), cases)), file=answers, flush=True)


def _answer(encode: Encode, request: dict[str, Any], cases: dict[str, list[str]]) -> dict[str, Any]:
    what = request["do"]
    if what == "encode":
        vectors = np.ascontiguousarray(encode(request["texts"]), dtype="<f4")
        return {"vectors": base64.b64encode(vectors.tobytes()).decode("ascii"), "shape": vectors.shape}
    if what == "warm_up":
        cases[request["case"]] = request["texts"]
        _warm_up(encode, _calls(request["texts"], request.get("each", False)))
        return {}
    if what == "time":
        calls = _calls(cases[request["case"]], request.get("each", False))
        return {"samples": _time(encode, calls, request["seconds"])}
    if what == "serve":
        return _serve(encode, cases[request["case"]], request)
    if what == "memory":
        return {"peak_bytes": _peak_bytes()}
    raise ValueError(f"unknown request {what!r}")


def _calls(texts: list[str], each: bool) -> Iterator[list[str]]:
    """Without end: one text after another, or all of them."""
    return cycle([[text] for text in texts] if each else [texts])


def _warm_up(encode: Encode, calls: Iterator[list[str]]) -> None:
    durations: list[float] = []
    until = time.perf_counter() + _WARM_UP_SECONDS
    while time.perf_counter() < until:
        started = time.perf_counter()
        encode(next(calls))
        durations.append(time.perf_counter() - started)
        before, last = durations[-2 * _WINDOW : -_WINDOW], durations[-_WINDOW:]
        if len(before) == _WINDOW and abs(statistics.median(last) / statistics.median(before) - 1) < _STEADY:
            return


def _time(encode: Encode, calls: Iterator[list[str]], seconds: float) -> list[dict[str, float]]:
    samples: list[dict[str, float]] = []
    until = time.perf_counter() + seconds
    while len(samples) < _FEWEST or time.perf_counter() < until:
        texts = next(calls)
        started = time.perf_counter()
        encode(texts)
        samples.append({"total": time.perf_counter() - started})
    return samples


def _serve(encode: Encode, texts: list[str], request: dict[str, Any]) -> dict[str, Any]:
    """A Poisson process, the same for all peers. A text's latency is from its arrival to its vector.

    What is not served in twice the time in which it arrives counts as unfinished.
    """
    chance = np.random.default_rng(request["seed"])
    rate, seconds = request["rate"], request["seconds"]
    arrivals = np.cumsum(chance.exponential(1 / rate, max(1, round(rate * seconds))))
    chosen = chance.integers(0, len(texts), len(arrivals))
    latencies: list[float] = []
    started = time.perf_counter()
    while len(latencies) < len(arrivals):
        now, first = time.perf_counter() - started, len(latencies)
        if now > 2 * seconds:
            break
        waiting = int(np.searchsorted(arrivals, now, side="right"))
        if waiting == first:
            time.sleep(arrivals[first] - now)
            continue
        last = min(waiting, first + _SERVED_AT_ONCE)
        encode([texts[row] for row in chosen[first:last]])
        latencies += (time.perf_counter() - started - arrivals[first:last]).tolist()
    return {"latencies": latencies, "unfinished": len(arrivals) - len(latencies)}


def _peak_bytes() -> int:
    """The most memory this process held; not ru_maxrss on Linux, which starts at the parent's size."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _take_stdout() -> TextIO:
    """The answers' stream; what a library prints goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers
