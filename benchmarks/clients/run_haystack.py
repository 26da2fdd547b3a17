"""Haystack's embedders for sentence-transformers: of queries, and of documents."""

from __future__ import annotations

from functools import cache
from typing import Any

from ask import serve


@cache
def opened(folder: str, verb: str, prefix: str) -> Any:
    from haystack_integrations.components.embedders import sentence_transformers as embedders

    if verb == "encode_query":
        made = embedders.SentenceTransformersTextEmbedder(model=folder, prefix=prefix, progress_bar=False)
    else:
        made = embedders.SentenceTransformersDocumentEmbedder(model=folder, prefix=prefix, progress_bar=False)
    made.warm_up()
    return made


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    from haystack import Document

    embedder = opened(request["folder"], verb, prompt)
    if verb == "encode_query":
        return [embedder.run(text=case["text"])["embedding"] for case in cases]
    found = embedder.run(documents=[Document(content=case["text"]) for case in cases])
    return [one.embedding for one in found["documents"]]


if __name__ == "__main__":
    serve(encode, "haystack-ai", "sentence-transformers-haystack")
