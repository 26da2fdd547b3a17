"""The targets: what can be built, which engine runs it, and which extra each side needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ringkas.errors import TargetError


@dataclass(frozen=True)
class Target:
    """One kind of artifact. `precision` names the row of the floor table that judges it."""

    name: str
    engine: str
    precision: str


TARGETS: Mapping[str, Target] = {
    target.name: target
    for target in (
        Target("pytorch-fp32", "pytorch", "fp32"),
        Target("onnx-fp32", "onnxruntime", "fp32"),
        Target("onnx-fp16", "onnxruntime", "fp16"),
    )
}


def target(name: str) -> Target:
    """The target of that name.

    Raises:
        TargetError: there is none.
    """
    if name in TARGETS:
        return TARGETS[name]
    raise TargetError(f"there is no target {name!r}", fix="Choose from: " + ", ".join(TARGETS))
