"""LlamaIndex: `HuggingFaceEmbedding` on a folder, `OpenAIEmbedding` on a server."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from ask import serve, written


@cache
def opened(folder: str, query: str, text: str) -> Any:
    from llama_index.embeddings.huggingface import HuggingFaceEmbedding

    return HuggingFaceEmbedding(folder, query_instruction=query, text_instruction=text, device="cpu")


@cache
def connected(address: str, name: str) -> Any:
    from llama_index.embeddings.openai import OpenAIEmbedding

    return OpenAIEmbedding(model_name=name, api_base=f"{address}/v1", api_key="none")


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    if sys.argv[1] == "server":
        client = connected(request["address"], request["name"])
        return client.get_text_embedding_batch(written(prompt, cases))
    texts = [case["text"] for case in cases]
    if verb == "encode_query":
        client = opened(request["folder"], prompt, "")
        return [client.get_query_embedding(text) for text in texts]
    return opened(request["folder"], "", prompt).get_text_embedding_batch(texts)


if __name__ == "__main__":
    serve(encode, "llama-index-embeddings-huggingface", "llama-index-embeddings-openai")
