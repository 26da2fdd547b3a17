"""Chroma by its class for sentence-transformers, or its own for ONNX; run_chroma.py (folder|onnx) REQUEST."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

from ask import serve, written


@cache
def opened(folder: str) -> Any:
    from chromadb.utils.embedding_functions import SentenceTransformerEmbeddingFunction

    return SentenceTransformerEmbeddingFunction(model_name=folder, device="cpu", normalize_embeddings=True)


@cache
def flat(folder: str) -> Any:
    """Its class is for one model that it downloads: told where it lies, it opens another as well."""
    from chromadb.utils.embedding_functions import ONNXMiniLM_L6_V2

    class Local(ONNXMiniLM_L6_V2):  # type: ignore[misc]
        DOWNLOAD_PATH = Path(folder)
        EXTRACTED_FOLDER_NAME = ""

        def _download_model_if_not_exists(self) -> None:
            """It is there."""

    return Local(preferred_providers=["CPUExecutionProvider"])


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    function = (flat if sys.argv[1] == "onnx" else opened)(request["folder"])
    return function(written(prompt, cases))


if __name__ == "__main__":
    serve(encode, "chromadb", "onnxruntime")
