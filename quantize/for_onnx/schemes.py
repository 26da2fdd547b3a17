"""The ONNX schemes as a table: how many bits each role's weights get, and how its input is made integers.

Every activation is quantised by constants or by its own row, never by the batch, so that a text's vector
does not depend on the texts beside it.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ringkas.errors import TargetError
from ringkas.family import FEED_FORWARD_OUTPUT, ROLE_NAMES, Handling, Role

# The least value that an activation function can give, where it has one: it fixes a row's zero point.
LOWEST_OUTPUT: Mapping[str, float] = {"gelu": -0.17, "relu": 0.0}
LOWEST_ROLE = FEED_FORWARD_OUTPUT


class OnnxScheme(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one artifact's weights and activations become integers.

    Layers are named as in the encoder (`encoder.layer.0.intermediate.dense`); `*` in a name stands for
    anything.

    Args:
        target: the target whose artifact this makes, and whose floor judges it.
        bits: of the linear layers' weights on disk, 8 or 4; they are multiplied as 8-bit integers.
        block: input channels that share a multiplier, for 4 bits.
        table_bits: of the token table: 8 (a scale a row), 4 (a scale a block), or 3 and 2 (bytes that stand
            for three or four values, by 256 entries for each place in a row: 2.67 and 2 bits).
        table_block: values that share a scale, for 4 bits.
        smoothing: how much of a channel's range moves from the activation to the weight (0 none, 1 all).
        outliers: how many input channels are multiplied in float where each token has a range of its own, at
            most one in 32. None takes what the family's row says of each role.
        margin: how far past the calibrated range a static range reaches.
        calibration_tokens: the most tokens that ranges and rounding are taken from.
        damping: how far GPTQ trusts the calibration's covariance: the share of its mean variance added.
        covariance_width: of an 8-bit scheme, the widest input whose covariance GPTQ goes by; the layers of a
            wider one are rounded to nearest. None sets no limit. For w channels it takes 4 w^2 bytes and w^3
            operations, and for 8 bits it matters little.
        bits_per_weight: layers are widened to 8 bits, the most sensitive first, up to this many over all
            weights, everything counted. None widens only those that `wide` names.
        sensitivity_tokens: how many calibration tokens measure the sensitivities.
        wide: of a 4-bit scheme, the layers that get 8 bits.
        floating: the layers whose weights and inputs stay float32.
        activations: how the inputs of a role's layers are made integers, where not as the family's row says;
            with `float` they are not, and where all are so the token table has blocks as well.
    """

    target: Literal["onnx-int8", "onnx-int4", "onnx-int3"]
    bits: Literal[4, 8]
    block: Annotated[int, Meta(ge=0, multiple_of=2)] = 0
    table_bits: Literal[2, 3, 4, 8] = 8
    table_block: Literal[0, 16, 32, 64, 128, 256] = 0
    smoothing: Annotated[float, Meta(ge=0, le=1)] = 0.8
    outliers: Annotated[int, Meta(ge=0)] | None = None
    margin: Annotated[float, Meta(ge=1)] = 1.1
    calibration_tokens: Annotated[int, Meta(ge=1)] = 8192
    damping: Annotated[float, Meta(gt=0)] = 0.1
    covariance_width: Annotated[int, Meta(ge=1)] | None = None
    bits_per_weight: Annotated[float, Meta(gt=0)] | None = None
    sensitivity_tokens: Annotated[int, Meta(ge=1)] = 1024
    wide: tuple[str, ...] = ()
    floating: tuple[str, ...] = ()
    activations: dict[str, Handling] = {}

    def __post_init__(self) -> None:
        for rule, is_broken in _RULES:
            if is_broken(self):
                raise ValueError(rule)

    def handling(self, role: Role) -> Handling:
        """How this role's inputs become integers."""
        usual = Handling.FLOAT if role.delicate and self.bits == 8 else role.handling
        return self.activations.get(role.name, usual)

    def outliers_of(self, role: Role) -> int:
        """How many channels of this role's inputs are multiplied in float."""
        if not self.handling(role).by_row:
            return 0
        return role.outliers if self.outliers is None else self.outliers

    def layers(self, patterns: tuple[str, ...], names: Iterable[str], field: str) -> frozenset[str]:
        """Which of `names` the patterns of `field` mean.

        Raises:
            TargetError: a pattern means none.
        """
        names = list(names)
        found: set[str] = set()
        for pattern in patterns:
            meant = fnmatch.filter(names, pattern)
            if not meant:
                raise TargetError(
                    f"the scheme's `{field}` names {pattern!r}, which is no linear layer of this checkpoint",
                    fix=f"They are named like {names[0]}; * stands for anything",
                )
            found.update(meant)
        return frozenset(found)


# What one field alone cannot say: each rule, and whether a scheme breaks it.
_RULES: tuple[tuple[str, Callable[[OnnxScheme], bool]], ...] = (
    ("`block` must be 16 or more where `bits` is 4", lambda one: one.bits == 4 and one.block < 16),
    ("`block` is for 4 bits only", lambda one: one.bits == 8 and one.block > 0),
    (
        "`table_block` must be stated where `table_bits` is 4",
        lambda one: one.table_bits == 4 > one.table_block,
    ),
    ("`table_block` is for `table_bits` 4 only", lambda one: one.table_bits != 4 and one.table_block > 0),
    ("`wide` is for `bits` 4 only", lambda one: one.bits == 8 and len(one.wide) > 0),
    ("`bits_per_weight` is for `bits` 4 only", lambda one: one.bits == 8 and one.bits_per_weight is not None),
    (
        "`wide` and `bits_per_weight` both say which layers are widened",
        lambda one: one.bits_per_weight is not None and len(one.wide) > 0,
    ),
    (
        "`target` must be onnx-int4 or onnx-int3 where anything has 4 bits",
        lambda one: one.target == "onnx-int8" and 4 in (one.bits, one.table_bits),
    ),
    (
        "`target` must be onnx-int3 where `table_bits` is below 4",
        lambda one: one.target != "onnx-int3" and one.table_bits < 4,
    ),
    (
        "`covariance_width` is for `bits` 8 only",
        lambda one: one.bits == 4 and one.covariance_width is not None,
    ),
    (
        "`activations` may be float for `bits` 8 only",
        lambda one: one.bits == 4 and Handling.FLOAT in one.activations.values(),
    ),
    (
        f"`activations` may name these roles: {', '.join(sorted(ROLE_NAMES))}",
        lambda one: not set(one.activations) <= set(ROLE_NAMES),
    ),
)

SCHEMES: Mapping[str, OnnxScheme] = {
    scheme.target: scheme
    for scheme in (
        OnnxScheme("onnx-int8", bits=8, covariance_width=2048),
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
        # Larger blocks, nothing wide, the table in codes: about 3.4 bits a weight where the vocabulary was
        # cut to two languages, 2.4 where it is full.
        OnnxScheme("onnx-int3", bits=4, block=64, table_bits=2, smoothing=0.5, damping=0.3),
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
