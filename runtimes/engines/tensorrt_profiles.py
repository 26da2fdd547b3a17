"""Optimisation profiles: the shapes that a plan is built for, and how batches are fitted to them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ringkas.errors import ArtifactError, TargetError

# What the kernels of the default profiles are chosen for: a query, and a batch of passages.
_QUERY_LENGTH, _BULK_BATCH, _BULK_LENGTH = 32, 32, 128
BULK_BATCH_LIMIT = 256
_STATED = re.compile(r"(\d+)x(\d+)(?:@(\d+)x(\d+))?")


@dataclass(frozen=True)
class Shape:
    """Texts in a batch, and tokens of the longest."""

    batch: int
    length: int

    def holds(self, other: Shape) -> bool:
        return other.batch <= self.batch and other.length <= self.length

    def __str__(self) -> str:
        return f"{self.batch}x{self.length}"


@dataclass(frozen=True)
class Profile:
    """Shapes from 1x1 to `most`; the kernels are chosen to be fastest at `best`."""

    most: Shape
    best: Shape

    def __str__(self) -> str:
        return f"{self.most}@{self.best}"


def default_profiles(max_length: int) -> tuple[Profile, ...]:
    """One text at a time, for latency, and batches, for throughput."""
    return (
        Profile(Shape(1, max_length), Shape(1, min(_QUERY_LENGTH, max_length))),
        Profile(Shape(BULK_BATCH_LIMIT, max_length), Shape(_BULK_BATCH, min(_BULK_LENGTH, max_length))),
    )


def parse_profiles(stated: Sequence[str], max_length: int, positions: int) -> tuple[Profile, ...]:
    """Profiles such as `64x512` (up to 64 texts of 512 tokens) or `64x512@16x128` (fastest at 16x128).

    Args:
        stated: as the user wrote them; none gives the defaults.
        max_length: the longest text that the checkpoint encodes, in tokens.
        positions: the longest sequence that its position table allows.

    Raises:
        TargetError: a profile cannot be read, is empty, or goes beyond the position table.
    """
    return tuple(_parse(one, positions) for one in stated) or default_profiles(max_length)


def _parse(stated: str, positions: int) -> Profile:
    found = _STATED.fullmatch(stated)
    if found is None:
        raise TargetError(
            f"the profile {stated!r} cannot be read", fix="Write BATCHxTOKENS, or BATCHxTOKENS@BATCHxTOKENS"
        )
    numbers = [int(number) for number in found.groups() if number is not None]
    most = Shape(numbers[0], numbers[1])
    best = Shape(*numbers[2:]) if len(numbers) > 2 else Shape(most.batch, min(most.length, _BULK_LENGTH))
    if min(numbers) < 1 or not most.holds(best):
        raise TargetError(
            f"the profile {stated!r} is empty",
            why="sizes start at 1, and the best shape lies within the largest",
        )
    if most.length > positions:
        raise TargetError(
            f"the profile {stated!r} goes beyond the position table",
            why=f"the model has positions for {positions} tokens, and a lookup past them gives garbage",
            fix=f"Write at most {most.batch}x{positions}",
        )
    return Profile(most, best)


def choose(most: Sequence[Shape], wanted: Shape) -> int | None:
    """The index of the smallest profile that holds `wanted`, or None."""
    fitting = [index for index, shape in enumerate(most) if shape.holds(wanted)]
    return min(fitting, key=lambda index: (most[index].batch * most[index].length, index), default=None)


def split(most: Sequence[Shape], wanted: Shape) -> list[int]:
    """How many texts of a batch go into each call, so that each fits a profile.

    Raises:
        ArtifactError: its length fits none.
    """
    widest = max((shape.batch for shape in most if shape.length >= wanted.length), default=0)
    if widest == 0:
        longest = max(shape.length for shape in most)
        raise ArtifactError(
            f"a sequence of {wanted.length} tokens fits no profile of this plan",
            why=f"the longest is {longest}",
            fix=f"Rebuild the plan with --profile {wanted.batch}x{wanted.length}",
        )
    whole, rest = divmod(wanted.batch, widest)
    return [widest] * whole + ([rest] if rest else [])
