"""The floors: how near to the reference an artifact must stay, one row a precision.

Judged per language on the built-in probe set (and on a user's own texts when given). The values measured on
real weights that a row rests on are beside it.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ringkas.errors import ArtifactError


class Floor(msgspec.Struct, frozen=True):
    """Lowest accepted: cosine of any text, mean cosine of a language, share of top-10 neighbours kept."""

    cosine_min: float
    cosine_mean: float
    top10_overlap: float = 0.0


FLOORS: Mapping[str, Floor] = {
    "fp32": Floor(0.99999, 0.99999, 1.0),
    "fp16": Floor(0.9995, 0.9999, 0.99),
    "bf16": Floor(0.999, 0.9995),
    "8bit": Floor(0.995, 0.998, 0.95),
    "fp8": Floor(0.985, 0.995),  # demo, tensorrt-fp8, all texts: 0.9924, 0.9964
    "6bit": Floor(0.98, 0.985),
    "5bit": Floor(0.98, 0.985),
    "4bit": Floor(0.95, 0.965, 0.80),
    # onnx-int3, all texts: demo-e5 cut to ko and en 0.9875, 0.9948, 0.865; demo 0.9142, 0.9628, 0.848
    "3bit": Floor(0.90, 0.93, 0.65),
}


def floor_of(precision: str, promise: float | None = None) -> Floor:
    """The floor of a manifest's precision, with the cosine minimum raised to what was promised.

    Raises:
        ArtifactError: this version knows no such precision.
    """
    if precision not in FLOORS:
        raise ArtifactError(
            f"there is no floor for the precision {precision!r}", fix="Run: pip install --upgrade ringkas"
        )
    floor = FLOORS[precision]
    return msgspec.structs.replace(floor, cosine_min=max(floor.cosine_min, promise or 0.0))
