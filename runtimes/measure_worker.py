"""The process that holds one engine for measure.py: a JSON line in, a JSON line out."""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ringkas.runtimes.encoder import Encoder, load, load_reference_encoder

# Warm when two windows of this many calls agree to 5%, or when the time is up.
_WINDOW, _STEADY, _WARM_UP_SECONDS = 5, 0.05, 1.5
_MIN_CALLS = 3


def main() -> None:
    spec = json.loads(sys.argv[1])
    started = time.perf_counter()
    encoder = _open(spec)
    encoder.encode("first vector")
    _answer({"load_s": time.perf_counter() - started})
    cases: dict[str, Sequence[str]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "warm_up":
            cases[request["case"]] = request["texts"]
            _warm_up(encoder, request["texts"])
            _answer({})
        elif request["do"] == "time":
            _answer({"samples": _time(encoder, cases[request["case"]], request["seconds"])})
        else:
            _answer({"peak_bytes": _peak_bytes()})


def _open(spec: dict[str, Any]) -> Encoder:
    if spec["reference"]:
        return load_reference_encoder(spec["reference"], threads=spec["threads"])
    return load(spec["artifact"], threads=spec["threads"], allow_failed=True)


def _warm_up(encoder: Encoder, texts: Sequence[str]) -> None:
    until = time.perf_counter() + _WARM_UP_SECONDS
    durations: list[float] = []
    while time.perf_counter() < until:
        started = time.perf_counter()
        encoder.encode(texts)
        durations.append(time.perf_counter() - started)
        before, last = durations[-2 * _WINDOW : -_WINDOW], durations[-_WINDOW:]
        if len(before) == _WINDOW and abs(np.median(last) / np.median(before) - 1) < _STEADY:
            return


def _time(encoder: Encoder, texts: Sequence[str], seconds: float) -> list[dict[str, float]]:
    samples: list[dict[str, float]] = []
    until = time.perf_counter() + seconds
    while len(samples) < _MIN_CALLS or time.perf_counter() < until:
        started = time.perf_counter()
        encoder.encode(texts)
        total = time.perf_counter() - started
        # The parts are timed in calls of their own, so that timing them adds nothing to the whole.
        started = time.perf_counter()
        token_ids = encoder.tokenizer.encode(texts)
        tokenised = time.perf_counter()
        encoder.encode_ids(token_ids)
        samples.append(
            {"total": total, "tokenise": tokenised - started, "run": time.perf_counter() - tokenised}
        )
    return samples


def _peak_bytes() -> int:
    """The most memory this process held. On Linux not ru_maxrss, which starts at the parent's size."""
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _answer(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    main()
