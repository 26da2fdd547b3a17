"""The process that holds one engine while it is measured (worker.py): a JSON line in, a JSON line out.

No text gets a prompt, not even the checkpoint's default one: neither the reference vectors in an artifact nor
the token counts of the cases have any.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import numpy.typing as npt

from ringkas.runtimes.encoder import Encoder, load, load_reference_encoder
from ringkas.runtimes.engine import Engine, Vectors
from ringkas.tokens import TokenBatch

# Warm when two windows of this many calls agree to 5%, or when the time is up.
_WINDOW, _STEADY, _WARM_UP_SECONDS = 5, 0.05, 1.5
_MIN_CALLS = 3
# Texts that a server puts into one call of the encoder, when so many wait.
_SERVED_AT_ONCE = 64

Answer = dict[str, Any]


def main() -> None:
    """Loads what the argument names, says so, and answers until the input ends."""
    spec = json.loads(sys.argv[1])
    started = time.perf_counter()
    encoder = _open(spec)
    encoder.encode("first vector", prompt="")
    _answer({"load_s": time.perf_counter() - started})
    serve_requests(encoder)


def serve_requests(encoder: Encoder) -> None:
    """Answers each line of the input about `encoder`."""
    texts_of: dict[str, Sequence[str]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "warm_up":
            texts_of[request["case"]] = request["texts"]
        texts = request.get("texts") or texts_of[request["case"]]
        _answer(_ANSWERS[request["do"]](encoder, texts, request))


def warm_up(encoder: Encoder, texts: Sequence[str], request: Mapping[str, Any]) -> Answer:
    """Encodes until two windows of calls take the same time."""
    until = time.perf_counter() + _WARM_UP_SECONDS
    durations: list[float] = []
    for call in _calls(texts, request["each"]):
        started = time.perf_counter()
        encoder.encode(call, prompt="")
        durations.append(time.perf_counter() - started)
        before, last = durations[-2 * _WINDOW : -_WINDOW], durations[-_WINDOW:]
        steady = len(before) == _WINDOW and abs(np.median(last) / np.median(before) - 1) < _STEADY
        if steady or time.perf_counter() > until:
            break
    return {}


def time_calls(encoder: Encoder, texts: Sequence[str], request: Mapping[str, Any]) -> Answer:
    """Seconds of whole calls, and of their parts: tokenising, what follows, and the engine within that."""
    samples: list[dict[str, float]] = []
    until = time.perf_counter() + request["seconds"]
    for call in _calls(texts, request["each"]):
        started = time.perf_counter()
        encoder.encode(call, prompt="")
        total = time.perf_counter() - started
        # The parts are timed in calls of their own, so that timing them adds nothing to the whole.
        samples.append({"total": total, **_parts(encoder, call)})
        if len(samples) >= _MIN_CALLS and time.perf_counter() > until:
            return {"samples": samples}
    raise AssertionError("calls never end")


def encode(encoder: Encoder, texts: Sequence[str], request: Mapping[str, Any]) -> Answer:
    """The vectors of the request's texts."""
    vectors = np.ascontiguousarray(encoder.encode(texts, prompt=""), dtype="<f4")
    return {"vectors": base64.b64encode(vectors.tobytes()).decode("ascii"), "shape": vectors.shape}


def serve(encoder: Encoder, texts: Sequence[str], request: Mapping[str, Any]) -> Answer:
    """Texts that arrive at random (a Poisson process), each served with all that wait when its turn comes.

    The answer holds each text's seconds from its arrival to its vector. When the queue is not emptied in
    twice the time in which it was filled, the rest counts as `unfinished`.
    """
    chance = np.random.default_rng(request["seed"])
    due = arrivals(chance, request["rate"], request["seconds"])
    picked = chance.integers(0, len(texts), len(due))
    latencies: list[float] = []
    started = time.perf_counter()
    while len(latencies) < len(due):
        now = time.perf_counter() - started
        if now > 2 * request["seconds"]:
            break
        first = len(latencies)
        waiting = int(np.searchsorted(due, now, side="right"))
        if waiting == first:
            time.sleep(due[first] - now)
            continue
        last = min(waiting, first + _SERVED_AT_ONCE)
        encoder.encode([texts[index] for index in picked[first:last]], prompt="")
        done = time.perf_counter() - started
        latencies += (done - due[first:last]).tolist()
    return {"latencies": latencies, "unfinished": len(due) - len(latencies)}


_ANSWERS: Mapping[str, Callable[[Encoder, Sequence[str], Mapping[str, Any]], Answer]] = {
    "warm_up": warm_up,
    "time": time_calls,
    "encode": encode,
    "serve": serve,
}


class _Clocked(Engine):
    """An engine that adds up the seconds it runs, in batches as large as its own."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine.dimension, engine.max_length)
        self.batch_tokens = engine.batch_tokens
        self.seconds, self._engine = 0.0, engine

    def run(self, batch: TokenBatch) -> Vectors:
        started = time.perf_counter()
        vectors = self._engine.run(batch)
        self.seconds += time.perf_counter() - started
        return vectors

    _run = run


def _parts(encoder: Encoder, texts: Sequence[str]) -> dict[str, float]:
    clocked = Encoder(encoder.spec, encoder.tokenizer, _Clocked(encoder.engine))
    assert isinstance(clocked.engine, _Clocked)
    started = time.perf_counter()
    token_ids = encoder.tokenizer.encode(texts)
    tokenised = time.perf_counter()
    clocked.encode_ids(token_ids)
    run = time.perf_counter() - tokenised
    return {"tokenise": tokenised - started, "run": run, "engine": clocked.engine.seconds}


def _calls(texts: Sequence[str], each: bool) -> Iterator[Sequence[str]]:
    """Without end: one text after another, or all of them."""
    return cycle([[text] for text in texts] if each else [list(texts)])


def arrivals(chance: np.random.Generator, rate: float, seconds: float) -> npt.NDArray[np.float64]:
    """Seconds of the arrivals of a Poisson process, from 0."""
    gaps = chance.exponential(1 / rate, max(1, round(rate * seconds)))
    return np.cumsum(gaps)


def _open(spec: dict[str, Any]) -> Encoder:
    if spec["reference"]:
        return load_reference_encoder(spec["reference"], threads=spec["threads"])
    return load(spec["artifact"], threads=spec["threads"], allow_failed=True)


def _answer(message: Answer) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
