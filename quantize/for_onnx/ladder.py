"""The schemes that a search tries, from the smallest to the nearest: what is sensitive gets bits first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from ringkas.errors import CheckpointError
from ringkas.progress import QUIET, Progress
from ringkas.quantize.for_onnx.schemes import SCHEMES, OnnxScheme
from ringkas.quantize.for_onnx.twin import Quantizer

# Of all the weights in linear layers, the share that gets 8 bits for 4, or float for 8.
WIDE_SHARES = (0.0, 0.15, 0.3, 0.5, 0.75, 1.0)
CODED_SHARES = (0.0, 0.15)  # with more the table of codes would cost more than all else
FLOAT_SHARES = (0.0, 0.08, 0.25)


@dataclass(frozen=True)
class Rung:
    """One scheme, and what it is in words."""

    name: str
    scheme: OnnxScheme


def ladder(quantizer: Quantizer, progress: Progress = QUIET) -> list[Rung]:
    """The rungs for one checkpoint, by the sensitivities measured on the quantizer's rows.

    Those with 4 bits are left out, and that is said, where the checkpoint's widths do not fit their blocks.
    """
    rungs: list[Rung] = []
    narrow_forms = (
        ("onnx-int3", "4 bits and a table of codes", CODED_SHARES), ("onnx-int4", "4 bits", WIDE_SHARES),
    )  # fmt: skip
    for name, words, shares in narrow_forms:
        narrow = replace(SCHEMES[name], bits_per_weight=None)
        try:
            quantizer.check(narrow)
        except CheckpointError as error:
            progress.say(f"no {name} forms: {error}")
            continue
        losses = quantizer.losses(narrow)
        for share in shares:
            wide = most_sensitive(losses, quantizer.layers, share)
            rungs.append(Rung(f"{words}, {share:.0%} of weights 8 bits", replace(narrow, wide=wide)))
    eight = SCHEMES["onnx-int8"]
    losses = quantizer.losses(eight)
    for share in FLOAT_SHARES:
        floating = most_sensitive(losses, quantizer.layers, share)
        rungs.append(Rung(f"8 bits, {share:.0%} of weights float", replace(eight, floating=floating)))
    return rungs


def most_sensitive(losses: Mapping[str, float], weights: Mapping[str, int], share: float) -> tuple[str, ...]:
    """The layers that cost the vectors most for each weight, as many as fit in that share of all weights."""
    room = share * sum(weights.values())
    chosen = []
    # Names part ties, so that every run agrees.
    for name in sorted(losses, key=lambda name: (-losses[name] / weights[name], name)):
        if weights[name] <= room:
            chosen.append(name)
            room -= weights[name]
    return tuple(sorted(chosen))
