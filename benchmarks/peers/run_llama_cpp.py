"""llama.cpp's own conversion through llama-cpp-python's embedding API, strings in: run_llama_cpp.py LIMIT.

A GGUF file does not tell at how many tokens sentence-transformers cuts. LIMIT does, so that all peers do the
same work: left alone, llama.cpp would read on to the end of its position table.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from worker import serve


def open_encoder(model: str, threads: int | None) -> Callable[[list[str]], np.ndarray]:
    from llama_cpp import Llama

    limit = int(sys.argv[1])

    class Limited(Llama):
        def tokenize(self, *arguments: Any, **options: Any) -> list[int]:
            tokens = super().tokenize(*arguments, **options)
            return tokens if len(tokens) <= limit else tokens[: limit - 1] + tokens[-1:]

    llama = Limited(model, embedding=True, n_ctx=0, n_threads=threads, n_threads_batch=threads, verbose=False)
    return lambda texts: np.array(llama.embed(texts, normalize=True), dtype=np.float32)


if __name__ == "__main__":
    serve(open_encoder, packages=("llama-cpp-python",))
