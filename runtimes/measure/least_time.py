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

# What the linear layers are multiplied in, by the precision of a manifest; fp16 weights are widened on a CPU.
_INTEGER = ("8bit", "4bit")


@dataclass(frozen=True)
class Shape:
    """What decides the work of an encoder. `matrices` is how many of hidden x intermediate a layer has."""

    hidden: int
    intermediate: int
    layers: int
    matrices: int
    weight_bytes: int
    integer: bool

    def operations(self, tokens: float) -> float:
        """Of the linear layers and attention for one text of `tokens` tokens."""
        linear = 4 * self.hidden * self.hidden + self.matrices * self.hidden * self.intermediate
        attention = 2 * tokens * self.hidden
        return 2.0 * self.layers * tokens * (linear + attention)


def shape_of(artifact: Artifact) -> Shape | None:
    """From the artifact's own configuration; None when it does not say."""
    config: Mapping[str, Any] = json.loads((artifact.path / "config.json").read_text(encoding="utf-8"))
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")
    if not all(isinstance(config.get(name), int) for name in names):
        return None
    hidden, intermediate, layers, rows = (config[name] for name in names)
    matrices = 3 if FAMILIES[artifact.manifest.encoding.family].gated else 2
    per_layer = 4 * hidden * hidden + matrices * hidden * intermediate
    table = rows * hidden  # a text reads a few rows of it
    share = layers * per_layer / (layers * per_layer + table)
    return Shape(
        hidden, intermediate, layers, matrices,
        weight_bytes=int(share * artifact.model_path.stat().st_size),
        integer=artifact.manifest.precision in _INTEGER,
    )  # fmt: skip


def floor_ms(shape: Shape, timing: Timing, ceiling: Ceiling) -> float:
    """Of one call of the timing's case, whose texts are taken to be of their mean length."""
    tokens = timing.tokens / timing.texts
    operations = timing.texts_per_call * shape.operations(tokens)
    peak = ceiling.int8_gops if shape.integer else ceiling.fp32_gops
    return 1e3 * max(operations / (peak * 1e9), shape.weight_bytes / (ceiling.read_gbytes * 1e9))
