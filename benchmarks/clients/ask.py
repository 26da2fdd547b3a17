"""How a client is asked in its own environment: `python run_NAME.py [ARGUMENTS] REQUEST.json`, a line back.

Needs the standard library alone. A request, JSON like the answer, has the `folder`, its `model_file`,
`dimension`, `max_length`, the `address` of a server where one runs, and `cases`: {"kind", "verb", "prompt",
"text", "ids"}. The answer has the `versions` of the packages, and for each case a vector, or the reason why
there is none.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import metadata
from itertools import groupby
from pathlib import Path
from typing import Any

# (request, verb, prompt, cases) to a row of numbers for each case.
Encode = Callable[[dict[str, Any], str, str, list[dict[str, Any]]], Sequence[Sequence[float]]]


def serve(encode: Encode, *packages: str) -> None:
    """Answers the request that the last argument names, a verb at a time; a text that fails, by itself."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints goes elsewhere
    request = json.loads(Path(sys.argv[-1]).read_text(encoding="utf-8"))
    rows: list[Any] = []
    for (verb, prompt, _), group in groupby(request["cases"], _call):
        rows += _rows(encode, request, verb, prompt, list(group))
    versions = {name: metadata.version(name) for name in packages}
    print(json.dumps({"versions": versions, "rows": rows}), file=answers, flush=True)


def _call(case: dict[str, Any]) -> tuple[str, str, bool]:
    """What is asked for in one call; a long text by itself, for many clients pad all others to it."""
    return case["verb"], case["prompt"], len(case["ids"]) >= 100


def _rows(encode: Encode, request: dict[str, Any], verb: str, prompt: str, cases: list[Any]) -> list[Any]:
    try:
        found = [[float(value) for value in row] for row in encode(request, verb, prompt, cases)]
        assert len(found) == len(cases), f"{len(found)} vectors for {len(cases)} texts"
        return found
    except Exception as error:
        if len(cases) == 1:
            return [f"{type(error).__name__}: {error}"[:300]]
    return [row for case in cases for row in _rows(encode, request, verb, prompt, [case])]


def written(prompt: str, cases: Sequence[dict[str, Any]]) -> list[str]:
    """The texts with their prompt before them, for clients that know none."""
    return [prompt + case["text"] for case in cases]
