"""`SentenceTransformer(FOLDER)`; run_sentence_transformers.py BACKEND REQUEST."""

from __future__ import annotations

import sys
from functools import cache
from typing import Any

from ask import serve


@cache
def opened(folder: str, backend: str, model_file: str) -> Any:
    from sentence_transformers import SentenceTransformer

    named = {"file_name": model_file} if backend == "onnx" else {}
    return SentenceTransformer(folder, device="cpu", backend=backend, model_kwargs=named)


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    model = opened(request["folder"], sys.argv[1], request["model_file"])
    return getattr(model, verb)([case["text"] for case in cases])


if __name__ == "__main__":
    serve(encode, "sentence-transformers", "transformers")
