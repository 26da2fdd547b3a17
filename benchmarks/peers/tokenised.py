"""For peers that run a graph and nothing around it: tokens, batches, pooling, as a careful user writes them.

Texts are sorted by length and go 8 at a time, which is the fastest of the plain ways on a CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

BATCH = 8

# (input_ids, attention_mask), both int64 of shape (n, tokens), to token vectors (n, tokens, dimension).
Run = Callable[[np.ndarray, np.ndarray], np.ndarray]


def encoder(folder: str, run: Run) -> Callable[[list[str]], np.ndarray]:
    """Texts to mean-pooled rows of length 1, with the tokenizer of `folder`."""
    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    limits = json.loads((Path(folder) / "tokenizer_config.json").read_text("utf-8"))
    tokenizer.enable_truncation(limits["model_max_length"])
    tokenizer.enable_padding()

    def encode(texts: list[str]) -> np.ndarray:
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        rows: list[np.ndarray] = []
        for start in range(0, len(order), BATCH):
            batch = tokenizer.encode_batch([texts[row] for row in order[start : start + BATCH]])
            ids = np.array([one.ids for one in batch], dtype=np.int64)
            mask = np.array([one.attention_mask for one in batch], dtype=np.int64)
            rows.extend(pool(run(ids, mask), mask))
        vectors = np.empty((len(texts), len(rows[0])), dtype=np.float32)
        vectors[order] = rows
        return vectors

    return encode


def pool(hidden: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean over the tokens that are not padding, of length 1."""
    weights = mask[..., None].astype(np.float32)
    means = (hidden * weights).sum(axis=1) / weights.sum(axis=1)
    return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
