"""fastembed with a custom model from local files."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from worker import serve

NAME = "local/model"


def open_encoder(model: str, threads: int | None) -> Callable[[list[str]], np.ndarray]:
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model=NAME,
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf=NAME),
        dim=384,
        model_file="onnx/model.onnx",
    )
    embedding = TextEmbedding(
        NAME, threads=threads, providers=["CPUExecutionProvider"], specific_model_path=model
    )
    return lambda texts: np.stack(list(embedding.embed(texts)))


if __name__ == "__main__":
    serve(open_encoder, packages=("fastembed", "onnxruntime"))
