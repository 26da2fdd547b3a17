"""The ONNX schemes as a table: how many bits each role's weights get, and how its input is made integers.

Every activation is quantised by constants or by its own row, never by the batch, so that a text's vector
does not depend on the texts beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from ringkas.errors import TargetError


class Handling(Enum):
    """How a linear layer's float input becomes unsigned 8-bit integers."""

    CENTRED = "static, channels shifted and scaled"  # for LayerNorm's output: a few channels stand far off
    STATIC = "static"
    ROW = "per row"  # for values whose range differs from token to token


@dataclass(frozen=True)
class Role:
    """The linear layers with the same place in a layer. Those that share their input are one group."""

    name: str
    endings: tuple[str, ...]
    handling: Handling


_BERT = (
    Role("attention input", ("self.query", "self.key", "self.value"), Handling.CENTRED),
    Role("attention output", ("attention.output.dense",), Handling.STATIC),
    Role("feed-forward input", ("intermediate.dense",), Handling.CENTRED),
    Role("feed-forward output", ("output.dense",), Handling.ROW),
)
# The first role whose ending fits a module's name is its own.
ROLES: Mapping[str, tuple[Role, ...]] = {
    "bert": _BERT,
    "xlm-roberta": _BERT,
    "modernbert": (
        Role("attention input", ("attn.Wqkv",), Handling.CENTRED),
        Role("attention output", ("attn.Wo",), Handling.STATIC),
        Role("feed-forward input", ("mlp.Wi",), Handling.CENTRED),
        Role("feed-forward output", ("mlp.Wo",), Handling.ROW),
    ),
}
# The least value that an activation function can give, where it has one: it fixes a row's zero point.
LOWEST_OUTPUT: Mapping[str, float] = {"gelu": -0.17, "relu": 0.0}
# Families whose feed-forward output multiplies the activation by a gate, which has no least value.
GATED = ("modernbert",)


@dataclass(frozen=True)
class OnnxScheme:
    """One target.

    Args:
        name: the target.
        bits: of the linear layers' weights on disk, 8 or 4; they are multiplied as 8-bit integers.
        block: input channels that share a multiplier, for 4 bits.
        table_bits: of the token table: 8 (a scale a row) or 4 (a scale a block).
        table_block: values that share a scale, for 4 bits.
        smoothing: how much of a channel's range moves from the activation to the weight (0 none, 1 all).
        margin: how far past the calibrated range a static range reaches.
        calibration_tokens: the most tokens that ranges and rounding are taken from.
        damping: how far GPTQ trusts the calibration's covariance: the share of its mean variance added.
        bits_per_weight: layers are widened to 8 bits, the most sensitive first, up to this many over all
            weights, everything counted.
        sensitivity_tokens: how many calibration tokens measure the sensitivities.
    """

    name: str
    bits: int
    block: int = 0
    table_bits: int = 8
    table_block: int = 0
    smoothing: float = 0.8
    margin: float = 1.1
    calibration_tokens: int = 8192
    damping: float = 0.1
    bits_per_weight: float | None = None
    sensitivity_tokens: int = 1024


SCHEMES: Mapping[str, OnnxScheme] = {
    scheme.name: scheme
    for scheme in (
        OnnxScheme("onnx-int8", bits=8),
        OnnxScheme(
            "onnx-int4",
            bits=4,
            block=32,
            table_bits=4,
            table_block=64,
            smoothing=0.5,
            damping=0.3,
            bits_per_weight=4.7,
        ),
    )
}


def scheme(name: str) -> OnnxScheme:
    """The scheme of a target.

    Raises:
        TargetError: the target is not one of these.
    """
    if name in SCHEMES:
        return SCHEMES[name]
    raise TargetError(f"there is no ONNX scheme {name!r}", fix="Choose from: " + ", ".join(SCHEMES))
