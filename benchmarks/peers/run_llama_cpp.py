"""llama.cpp's own conversion through llama-cpp-python's embedding API: strings in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from worker import serve


def open_encoder(model: str, threads: int | None) -> Callable[[list[str]], np.ndarray]:
    from llama_cpp import Llama

    llama = Llama(model, embedding=True, n_ctx=0, n_threads=threads, n_threads_batch=threads, verbose=False)
    return lambda texts: np.array(llama.embed(texts, normalize=True), dtype=np.float32)


if __name__ == "__main__":
    serve(open_encoder, packages=("llama-cpp-python",))
