"""txtai's `Embeddings`, by sentence-transformers or by its own pooling; run_txtai.py METHOD REQUEST.

It asks for queries and data with the model's own prompts; for none it has to be told so.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from ask import serve

CATEGORIES = {"encode": "data", "encode_query": "query", "encode_document": "data"}
# How each method is told to put no prompt before a text.
PLAIN: dict[str, dict[str, Any]] = {
    "sentence-transformers": {"encodeargs": {"prompt": ""}},
    "transformers": {"instructions": {}},
}


@cache
def opened(folder: str, method: str, verb: str) -> Any:
    from txtai import Embeddings

    more = PLAIN[method] if verb == "encode" else {}
    return Embeddings(path=folder, method=method, gpu=False, **more)


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    client = opened(request["folder"], sys.argv[1], verb)
    return client.batchtransform([case["text"] for case in cases], category=CATEGORIES[verb])


if __name__ == "__main__":
    serve(encode, "txtai")
