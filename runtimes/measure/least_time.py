"""The least time that a text can take here: its operations over the peak, or its bytes over the bandwidth.

A row's distance to it says how much a better engine could still gain.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ringkas.artifact import Artifact
from ringkas.families import FAMILIES
from ringkas.runtimes.measure.ceiling import Ceiling
from ringkas.runtimes.measure.rounds import Timing


@dataclass(frozen=True)
class Work:
    """What decides how much an encoder computes and reads.

    Args:
        layers: transformer layers.
        linear: weights of one layer's matrices.
        attended: the width of queries and values together, of all heads.
        weight_bytes: what one text reads of the file.
        integer: whether the matrices are multiplied in 8-bit integers.
    """

    layers: int
    linear: int
    attended: int
    weight_bytes: int
    integer: bool

    def operations(self, tokens: float) -> float:
        """Of the linear layers and attention for one text of `tokens` tokens."""
        return 2.0 * self.layers * tokens * (self.linear + tokens * self.attended)


def work_of(artifact: Artifact) -> Work | None:
    """From the artifact's own configuration; None when it does not say."""
    config: Mapping[str, Any] = json.loads((artifact.path / "config.json").read_text(encoding="utf-8"))
    family = FAMILIES[artifact.manifest.encoding.family]
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    sizes = [family.value(config, name) for name in names]
    if not all(isinstance(size, int) for size in sizes):
        return None
    hidden, intermediate, layers, heads, rows = sizes
    shared = family.value(config, "num_key_value_heads") if family.grouped_heads else None
    width = (family.value(config, "head_dim") if family.grouped_heads else None) or hidden // heads
    # Queries and the output, keys and values; then the feed-forward.
    linear = 2 * hidden * width * heads + 2 * hidden * width * (shared or heads)
    linear += (3 if family.gated else 2) * hidden * intermediate
    share = layers * linear / (layers * linear + rows * hidden)  # a text reads a few rows of the token table
    return Work(
        layers,
        linear,
        2 * heads * width,
        weight_bytes=int(share * artifact.model_path.stat().st_size),
        integer=is_integer(artifact.manifest.precision),
    )


def is_integer(precision: str) -> bool:
    """Whether matrices of a manifest's precision are multiplied as 8-bit integers: those of 8 bits and fewer,
    however few are stored. Other types are widened to float32 on a CPU."""
    return precision.endswith("bit")


def floor_ms(work: Work, timing: Timing, ceiling: Ceiling) -> float:
    """Of one call of the timing's case, whose texts are taken to be of their mean length."""
    tokens = timing.tokens / timing.texts
    operations = timing.texts_per_call * work.operations(tokens)
    peak = ceiling.int8_gops if work.integer else ceiling.fp32_gops
    return 1e3 * max(operations / (peak * 1e9), work.weight_bytes / (ceiling.read_gbytes * 1e9))
