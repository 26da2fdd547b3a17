"""The TensorRT schemes as a table: the 16-bit type that a graph computes in, and what its linear layers are
quantised to.

TensorRT 11 takes precision from the graph alone: element types and Q/DQ nodes, no flags and no calibrator.
Both kinds of 8 bits are symmetric (a zero point is refused), with one scale for an activation and one for
each output channel of a weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from ringkas.errors import TargetError
from ringkas.targets import targets


@dataclass(frozen=True)
class Levels:
    """What an 8-bit element may hold. Scales take `largest` for the end of both sides."""

    name: str
    lowest: float
    largest: float
    integer: bool


INT8 = Levels("int8", -128.0, 127.0, integer=True)
# E4M3 without infinities: Micikevicius et al., 2022 (arXiv:2209.05433).
FP8 = Levels("fp8", -448.0, 448.0, integer=False)


class Range(Enum):
    """How the static range of a layer's input is taken."""

    PLAIN = "one scale"
    CENTRED = "channels shifted and scaled, then one scale"  # see quantize/smooth.py


@dataclass(frozen=True)
class TensorRTScheme:
    """One precision.

    Args:
        precision: the last part of the target's name.
        dtype: of weights, products and residuals, as torch names it; LayerNorm, softmax, pooling and
            normalisation are float32 in every scheme.
        least_capability: the oldest compute capability whose tensor cores have the type.
        levels: of the linear layers' inputs and weights; None leaves them in `dtype`.
        ranges: how each role's input is quantised (roles: quantize/for_onnx/schemes.py); a role that is not
            named stays in `dtype`.
        smoothing: how much of a channel's range moves from the activation to the weight (0 none, 1 all).
        margin: how far past the calibrated range a static range reaches.
        calibration_tokens: the most tokens that ranges and rounding are taken from.
        damping: how far GPTQ trusts the calibration's covariance: the share of its mean variance added.
        table_share: the token table is stored in int8 when it is at least this share of all weights.
    """

    precision: str
    dtype: str
    least_capability: tuple[int, int]
    levels: Levels | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    smoothing: float = 0.8
    margin: float = 1.05
    calibration_tokens: int = 8192
    damping: float = 0.1
    table_share: float = 0.5


# Cosines with PyTorch on 160 SIB-200 sentences, demo weights, simulated (min / mean). FP8: one scale 0.9962 /
# 0.9976, centred 0.910 / 0.947, since a float's precision lies around zero. INT8: one scale 0.972 / 0.984,
# as below 0.9987 / 0.9996, with the feed-forward output in 8 bits too 0.9955 / 0.9987: a few tokens of
# GELU's output are many times larger than all others, and one range does not fit both.
TENSORRT_SCHEMES: Mapping[str, TensorRTScheme] = {
    scheme.precision: scheme
    for scheme in (
        TensorRTScheme("fp16", "float16", (7, 5)),
        TensorRTScheme("bf16", "bfloat16", (8, 0)),
        TensorRTScheme(
            "fp8",
            "float16",
            (8, 9),
            FP8,
            {
                "attention input": Range.PLAIN,
                "attention output": Range.PLAIN,
                "feed-forward input": Range.PLAIN,
                "feed-forward output": Range.PLAIN,
            },
        ),
        TensorRTScheme(
            "int8",
            "float16",
            (7, 5),
            INT8,
            {
                "attention input": Range.CENTRED,
                "attention output": Range.PLAIN,
                "feed-forward input": Range.CENTRED,
            },
        ),
    )
}


def tensorrt_scheme(target: str) -> TensorRTScheme:
    """The scheme of a target such as `tensorrt-fp16` or `tensorrt-rtx-fp16`.

    Raises:
        TargetError: the target is not one of these.
    """
    known = targets().get(target)
    precision = target.rpartition("-")[2]
    if known is not None and known.format.plans and precision in TENSORRT_SCHEMES:
        return TENSORRT_SCHEMES[precision]
    raise TargetError(
        f"there is no TensorRT scheme {target!r}",
        fix="Choose from: " + ", ".join(f"tensorrt-{name}" for name in TENSORRT_SCHEMES),
    )
