"""fastembed with a custom model from local files; run_fastembed.py (mean|own) REQUEST.

`own` takes the graph's vectors, as the model card says; `mean` pools and normalises what its tokens are.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

from ask import serve, written

NAME = "local/model"


@cache
def opened(folder: str, model_file: str, dimension: int, how: str) -> Any:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    data = f"{model_file}_data"
    options: dict[str, Any] = {"pooling": PoolingType.MEAN, "normalization": True}
    if how == "own":
        options = {"pooling": PoolingType.DISABLED, "normalization": False}
        options["output_name"] = "sentence_embedding"
    if (Path(folder) / data).is_file():
        options["additional_files"] = [data]
    source = ModelSource(hf=NAME)
    TextEmbedding.add_custom_model(NAME, sources=source, dim=dimension, model_file=model_file, **options)
    return TextEmbedding(NAME, specific_model_path=folder, providers=["CPUExecutionProvider"])


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    model = opened(request["folder"], request["model_file"], request["dimension"], sys.argv[1])
    return list(model.embed(written(prompt, cases)))


if __name__ == "__main__":
    serve(encode, "fastembed", "onnxruntime")
