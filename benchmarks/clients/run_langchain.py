"""LangChain: `HuggingFaceEmbeddings` on a folder, `OpenAIEmbeddings` on a server."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from ask import serve, written


@cache
def opened(folder: str, verb: str) -> Any:
    from langchain_huggingface import HuggingFaceEmbeddings

    if verb == "encode":
        return HuggingFaceEmbeddings(model_name=folder)
    return HuggingFaceEmbeddings(
        model_name=folder,
        encode_kwargs={"prompt_name": "document"},
        query_encode_kwargs={"prompt_name": "query"},
    )


@cache
def connected(address: str, name: str) -> Any:
    from langchain_openai import OpenAIEmbeddings

    base = f"{address}/v1"
    return OpenAIEmbeddings(model=name, base_url=base, api_key="none", check_embedding_ctx_length=False)


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    if sys.argv[1] == "server":
        client = connected(request["address"], request["name"])
        return client.embed_documents(written(prompt, cases))
    client, texts = opened(request["folder"], verb), [case["text"] for case in cases]
    return (
        [client.embed_query(text) for text in texts]
        if verb == "encode_query"
        else client.embed_documents(texts)
    )


if __name__ == "__main__":
    serve(encode, "langchain-huggingface", "langchain-openai")
