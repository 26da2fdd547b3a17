"""The regression guard: is one benchmark slower than another, beyond what chance and the machine explain?

Two runs are hours or versions apart, and the machine is not the same twice. So every round's median is
first divided by what a fixed matrix product took in the same round; then the logarithms of the two runs are
compared (Welch), with a confidence that allows for the number of comparisons (Bonferroni). A slowdown is real
when even the interval's lower end is above the tolerance.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ringkas.errors import TextError
from ringkas.runtimes.measure.bench import SCHEMA_VERSION, BenchResult, BenchRow
from ringkas.runtimes.measure.intervals import Ratio, independent_ratio

# A slowdown below this is not worth a failed check.
TOLERANCE = 1.05
_ERROR_RATE = 0.05
_FEWEST_ROUNDS = 3

Rounds = npt.NDArray[np.float64]


class Change(msgspec.Struct, frozen=True):
    """One subject on one case: time after over time before, on a machine held equal."""

    name: str
    case: str
    ratio: Ratio
    slower: bool


class Comparison(msgspec.Struct, frozen=True):
    """All that both results have. `fidelity_lost` names what passed its floor before and does not after."""

    changes: tuple[Change, ...]
    fidelity_lost: tuple[str, ...]
    machine_ratio: float | None

    @property
    def slower(self) -> bool:
        return bool(self.fidelity_lost) or any(change.slower for change in self.changes)


class _Version(msgspec.Struct):
    schema_version: int


def read_result(file: Path) -> BenchResult:
    """A result that `ringkas bench --json` wrote.

    Raises:
        TextError: it cannot be read, or is of another version.
    """
    try:
        data = file.read_bytes()
        version = msgspec.json.decode(data, type=_Version).schema_version
        if version != SCHEMA_VERSION:
            raise TextError(
                f"{file} has schema version {version}", why=f"this ringkas reads version {SCHEMA_VERSION}",
                fix="Measure again with ringkas bench --json",
            )  # fmt: skip
        return msgspec.json.decode(data, type=BenchResult)
    except OSError as error:
        raise TextError(f"cannot read {file}", why=error.strerror or str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TextError(
            f"{file} is not a benchmark's result", why=str(error), fix="ringkas bench --json writes one"
        ) from None


def compare_results(before: BenchResult, after: BenchResult) -> Comparison:
    """Judges every subject and case that both results have.

    Raises:
        TextError: they cannot be compared: another machine, other texts or threads, or too few rounds.
    """
    _check_comparable(before, after)
    pairs = list(_pairs(before, after))
    if not pairs:
        raise TextError("the results have nothing in common", why="no subject and case is in both")
    confidence = 1 - _ERROR_RATE / len(pairs)
    changes = []
    for name, case, old, new in pairs:
        ratio = independent_ratio(new, old, confidence)
        changes.append(Change(name, case, ratio, ratio.low is not None and ratio.low > TOLERANCE))
    lost = tuple(
        row.measured.name
        for row, old_row in _common_rows(before, after)
        if old_row.fidelity and row.fidelity and old_row.fidelity.passed and row.fidelity.passed is False
    )
    return Comparison(tuple(changes), lost, _machine_ratio(before, after))


def _check_comparable(before: BenchResult, after: BenchResult) -> None:
    for what, old, new in (
        ("processors", (before.machine.cpu, before.machine.cores), (after.machine.cpu, after.machine.cores)),
        ("threads", before.plan.threads, after.plan.threads),
        ("texts", before.texts_sha256, after.texts_sha256),
    ):
        if old != new:
            raise TextError(
                f"the results were measured with different {what}",
                why=f"{old} before, {new} after",
                fix="Measure both on one machine, with the same options",
            )
    fewest = min(before.plan.rounds, after.plan.rounds)
    if fewest < _FEWEST_ROUNDS:
        raise TextError(
            f"a result of {fewest} rounds cannot be judged", why="its spread is not known",
            fix=f"Measure with --rounds {_FEWEST_ROUNDS} or more",
        )  # fmt: skip


def _common_rows(before: BenchResult, after: BenchResult) -> Iterator[tuple[BenchRow, BenchRow]]:
    """Rows after and before."""
    old = {row.measured.name: row for row in before.rows}
    for row in after.rows:
        if row.measured.name in old:
            yield row, old[row.measured.name]


def _pairs(before: BenchResult, after: BenchResult) -> Iterator[tuple[str, str, Rounds, Rounds]]:
    """Name, case, and the rounds before and after: in units of the machine's own product, if both have it."""
    held_equal = before.ceiling is not None and after.ceiling is not None
    old_unit, new_unit = (_control(result) if held_equal else np.ones(1) for result in (before, after))
    for row, old_row in _common_rows(before, after):
        old = {timing.case: timing.rounds for timing in old_row.measured.timings}
        for timing in row.measured.timings:
            if timing.case in old:
                yield (
                    row.measured.name,
                    timing.case,
                    np.asarray(old[timing.case]) / old_unit,
                    np.asarray(timing.rounds) / new_unit,
                )


def _control(result: BenchResult) -> Rounds:
    assert result.ceiling is not None
    return np.asarray(result.ceiling.control_rounds)


def _machine_ratio(before: BenchResult, after: BenchResult) -> float | None:
    if before.ceiling is None or after.ceiling is None:
        return None
    return float(np.median(_control(after)) / np.median(_control(before)))
