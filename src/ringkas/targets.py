"""The targets: what can be built, each of a format (formats.py) in a precision."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ringkas.errors import TargetError
from ringkas.formats import FORMATS, Format


@dataclass(frozen=True)
class Target:
    """One kind of artifact. `precision` names the row of the floor table that judges it."""

    name: str
    format: Format
    precision: str

    @property
    def engine(self) -> str:
        """The engine that a manifest names: the format's default."""
        return self.format.engine

    @property
    def bits(self) -> int:
        """The bits of most of its weights, by the name of its precision."""
        found = re.search(r"\d+", self.precision)
        assert found is not None  # a test goes through all targets
        return int(found[0])


def targets() -> dict[str, Target]:
    """Every target by its name."""
    return {
        name: Target(name, one, precision)
        for one in FORMATS.values()
        for name, precision in one.targets.items()
    }


def target(name: str) -> Target:
    """The target of that name.

    Raises:
        TargetError: there is none.
    """
    known = targets()
    if name in known:
        return known[name]
    raise TargetError(f"there is no target {name!r}", fix="Choose from: " + ", ".join(known))
