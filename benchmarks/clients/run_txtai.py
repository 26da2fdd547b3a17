"""txtai's `Embeddings`, by sentence-transformers or by its own pooling; run_txtai.py METHOD REQUEST.

By sentence-transformers it asks for queries and data by that library's verbs, which know the prompts.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from ask import serve, written

CATEGORIES = {"encode": None, "encode_query": "query", "encode_document": "data"}


@cache
def opened(folder: str, method: str) -> Any:
    from txtai import Embeddings

    return Embeddings(path=folder, method=method, gpu=False)


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    method = sys.argv[1]
    client = opened(request["folder"], method)
    if method == "sentence-transformers":
        return client.batchtransform([case["text"] for case in cases], category=CATEGORIES[verb])
    return client.batchtransform(written(prompt, cases))


if __name__ == "__main__":
    serve(encode, "txtai")
