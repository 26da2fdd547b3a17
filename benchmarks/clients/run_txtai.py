"""txtai's `Embeddings`, by sentence-transformers or by its own pooling; run_txtai.py METHOD REQUEST.

By sentence-transformers it asks for queries and data by that library's verbs, which know the prompts; for
none it has to be told so.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from ask import serve, written

CATEGORIES = {"encode": "data", "encode_query": "query", "encode_document": "data"}


@cache
def opened(folder: str, method: str, verb: str) -> Any:
    from txtai import Embeddings

    more = {"encodeargs": {"prompt": ""}} if verb == "encode" else {}
    return Embeddings(path=folder, method=method, gpu=False, **more)


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    method = sys.argv[1]
    if method == "sentence-transformers":
        client = opened(request["folder"], method, verb)
        return client.batchtransform([case["text"] for case in cases], category=CATEGORIES[verb])
    return opened(request["folder"], method, "").batchtransform(written(prompt, cases))


if __name__ == "__main__":
    serve(encode, "txtai")
