"""txtai's `Embeddings`, by sentence-transformers or by its own pooling; run_txtai.py METHOD REQUEST."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from ask import serve


@cache
def opened(folder: str, method: str, query: str, data: str) -> Any:
    from txtai import Embeddings

    return Embeddings(path=folder, method=method, gpu=False, instructions={"query": query, "data": data})


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    client = opened(request["folder"], sys.argv[1], prompt, prompt)
    category = "query" if verb == "encode_query" else "data"
    return client.batchtransform([case["text"] for case in cases], category=category)


if __name__ == "__main__":
    serve(encode, "txtai")
