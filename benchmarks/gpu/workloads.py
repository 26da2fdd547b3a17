"""What the GPU is given: random models by seed, batches of ids, and how long a call takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ringkas.runtimes.engines import pytorch_packed
from ringkas.runtimes.reference import Reference
from ringkas.spec import EncodingSpec
from ringkas.tokens import TokenBatch, pad

SEED = 20240607
# Texts x tokens: one short text, one of a question's length, and three loads of a server.
GRID = ((1, 16), (1, 64), (32, 64), (256, 64), (32, 512))
REHEARSED_GRID = ((1, 16), (4, 32))


@dataclass(frozen=True)
class Shape:
    """An encoder's sizes. `offset` is the position of the first token."""

    family: str
    hidden: int
    layers: int
    heads: int
    intermediate: int
    vocabulary: int
    offset: int = 0

    def operations(self, texts: int, tokens: int) -> float:
        """Of the matrix products of `texts` texts of `tokens` tokens each."""
        linear = 4 * self.hidden**2 + 2 * self.hidden * self.intermediate
        return 2.0 * self.layers * texts * tokens * (linear + 2 * tokens * self.hidden)

    @property
    def weights(self) -> int:
        """Those that every call reads: the layers', not the token table's."""
        return self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.intermediate)


SHAPES = {
    "MiniLM": Shape("bert", 384, 6, 12, 1536, 30_522),
    "e5-small": Shape("bert", 384, 12, 12, 1536, 250_037),
    "XLM-R-large": Shape("xlm-roberta", 1024, 24, 16, 4096, 250_002, offset=2),
}


def rehearsed(shape: Shape) -> Shape:
    """So small that a CPU takes no time; every step is the same."""
    return replace(shape, hidden=64, layers=2, heads=4, intermediate=128, vocabulary=500)


def reference_of(shape: Shape, dtype: str, device: str, attention: str) -> Reference:
    """Random weights by seed, made on the device: nothing of 2 GB travels."""
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(SEED)
    config = AutoConfig.for_model(
        shape.family,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        vocab_size=shape.vocabulary,
        max_position_embeddings=512 + shape.offset,
        pad_token_id=shape.offset - 1 if shape.offset else 0,
    )
    with torch.device(device):
        encoder = AutoModel.from_config(
            config, dtype=getattr(torch, dtype), attn_implementation=attention, add_pooling_layer=False
        )
    spec = EncodingSpec(shape.family, max_length=512, dimension=shape.hidden)
    return Reference(encoder, spec).eval()


def batch_of(shape: Shape, lengths: list[int], seed: int = SEED) -> TokenBatch:
    chance = np.random.default_rng(seed)
    return pad([chance.integers(5, shape.vocabulary, length).tolist() for length in lengths], 1)


def passage_lengths(count: int, mean: int = 68) -> list[int]:
    """As passages come: most near the mean, some far longer; none over 512."""
    chance = np.random.default_rng(SEED)
    spread = chance.lognormal(0, 0.45, count)
    return np.clip(mean * spread / spread.mean(), 4, 512).astype(int).tolist()


def padded_runner(reference: Reference, device: str) -> Callable[[TokenBatch], np.ndarray]:
    """What most do: a padded batch, one layer launched after another."""

    def run(batch: TokenBatch) -> np.ndarray:
        with torch.inference_mode():
            ids, mask = (
                torch.from_numpy(part).to(device) for part in (batch.input_ids, batch.attention_mask)
            )
            return np.asarray(reference(ids, mask)[1].cpu().numpy())

    return run


def packed_runner(
    shape: Shape, reference: Reference, *, capture: bool
) -> tuple[Callable[[TokenBatch], np.ndarray], Callable[[TokenBatch], Callable[[], np.ndarray]]]:
    """(one batch at a time, batches that are queued) of this project's engine."""
    runner = pytorch_packed.PackedRunner(reference, shape.offset, capture=capture)
    return (lambda batch: runner.start(batch)()), runner.start


def milliseconds(call: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Median and least of calls that end with the vectors on the host, after three that warm up."""
    for _ in range(3):
        call()
    samples: list[float] = []
    until = time.perf_counter() + seconds
    while len(samples) < 3 or (time.perf_counter() < until and len(samples) < 200):
        started = time.perf_counter()
        call()
        samples.append(1e3 * (time.perf_counter() - started))
    return {
        "ms": round(statistics.median(samples), 4),
        "least_ms": round(min(samples), 4),
        "calls": len(samples),
    }


def queued_milliseconds(start: Callable[[], Callable[[], Any]], calls: int = 20) -> float:
    """Each call when the next is queued before the last has ended."""
    start()()
    began = time.perf_counter()
    waiting = [start() for _ in range(calls)]
    for wait in waiting:
        wait()
    return round(1e3 * (time.perf_counter() - began) / calls, 4)
