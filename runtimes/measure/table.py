"""A benchmark's result as cells, for the terminal, Markdown and HTML alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ringkas.runtimes.measure.bench import BenchResult, BenchRow
from ringkas.runtimes.measure.cases import OFFLINE, SINGLE_STREAM
from ringkas.runtimes.measure.intervals import Interval
from ringkas.runtimes.measure.rounds import Timing


@dataclass(frozen=True)
class Line:
    """One row's cells; `struck` when its parity fell short."""

    cells: tuple[str, ...]
    struck: bool


@dataclass(frozen=True)
class Cells:
    """A table: the name's column first, all others numbers."""

    title: str
    heads: tuple[str, ...]
    lines: tuple[Line, ...]


def tables(result: BenchResult) -> list[Cells]:
    """What a reader asks, in this order: how near and how large, how fast one text, how many."""
    cases = result.rows[0].measured.timings
    single = [timing.case for timing in cases if timing.scenario == SINGLE_STREAM]
    found = [_table(result, "Size and fidelity", _SIZE)] if result.compared_on else []
    if single:
        title = "One text at a time: median milliseconds, and times the first row's"
        found.append(_table(result, title, {case: _single(case) for case in single}))
    if OFFLINE in (timing.case for timing in cases):
        found.append(_table(result, "All texts at once", _OFFLINE))
    if any(row.served for row in result.rows):
        found.append(_table(result, "Served as they arrive (Poisson)", _SERVED))
    return found


def details(result: BenchResult) -> Cells:
    """Every case of every row: percentiles, the ratio's interval, the parts, the distance to the floor."""
    lines = tuple(
        Line(
            (row.measured.name, timing.case, *(cell(row, timing) for cell in _DETAILS.values())),
            struck=_fell_short(row),
        )
        for row in result.rows
        for timing in row.measured.timings
    )
    return Cells("Every case", ("", "case", *_DETAILS), lines)


def remarks(result: BenchResult) -> list[str]:
    """The sentences that belong under the tables."""
    machine, plan = result.machine, result.plan
    threads = f"{plan.threads} threads" if plan.threads else "threads as each engine chooses"
    load = "" if machine.load is None else f", load {machine.load:.1f} at the start"
    said = [
        f"Measured on {machine.cpu}, {machine.cores} cores ({' '.join(machine.features)}){load}; {threads}, "
        f"{plan.rounds} rounds, every engine in a process of its own.",
    ]
    if result.compared_on:
        said.append(
            f"Cosines with PyTorch on {result.compared_on}. A row struck through fell short of its floor."
        )
    if result.ceiling is not None:
        said.append(
            f"This machine's ceilings through ONNX Runtime: {result.ceiling.fp32_gops:.0f} GFLOP/s in fp32, "
            f"{result.ceiling.int8_gops:.0f} GOP/s in int8, memory read at "
            f"{result.ceiling.read_gbytes:.1f} GB/s. 'Of its floor' is the time over the least they allow."
        )
    return said


Cell = Callable[[BenchRow], str]
TimingCell = Callable[[BenchRow, Timing], str]


def timing_of(row: BenchRow, case: str) -> Timing:
    """The row's timing of a case."""
    return next(timing for timing in row.measured.timings if timing.case == case)


def _table(result: BenchResult, title: str, columns: Mapping[str, Cell]) -> Cells:
    lines = tuple(
        Line((row.measured.name, *(cell(row) for cell in columns.values())), struck=_fell_short(row))
        for row in result.rows
    )
    return Cells(title, ("", *columns), lines)


def _fell_short(row: BenchRow) -> bool:
    return row.fidelity is not None and row.fidelity.passed is False


def _single(case: str) -> Cell:
    return lambda row: f"{timing_of(row, case).total.median:.2f} ×{row.ratios[case].value:.2f}"


def _offline(cell: TimingCell) -> Cell:
    return lambda row: cell(row, timing_of(row, OFFLINE))


def _memory(row: BenchRow, kind: str) -> str:
    memory = row.measured.memory
    return "" if memory is None else _megabytes(getattr(memory, kind))


def _megabytes(size: int | None) -> str:
    return "" if size is None else f"{size / 1e6:.1f}"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _median(part: Interval | None) -> float | None:
    return None if part is None else part.median


def _ratio(row: BenchRow, timing: Timing) -> str:
    ratio = row.ratios[timing.case]
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}"
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def _of_floor(row: BenchRow, timing: Timing) -> str:
    floor = row.floors_ms.get(timing.case)
    return "" if floor is None else f"{timing.total.median / floor:.1f}"


def _overhead(row: BenchRow, timing: Timing) -> str:
    """What the call takes beyond the engine, as a share of the engine's time: with tokenising, without."""
    if timing.engine is None or timing.run is None:
        return ""
    whole = timing.total.median / timing.engine.median - 1
    return f"{whole:.0%}, {timing.run.median / timing.engine.median - 1:.0%}"


_SIZE: Mapping[str, Cell] = {
    "MB on disk": lambda row: _megabytes(row.size),
    "cosine min": lambda row: f"{row.fidelity.cosine_min:.5f}" if row.fidelity else "",
    "mean": lambda row: f"{row.fidelity.cosine_mean:.5f}" if row.fidelity else "",
    "cold start s": lambda row: f"{row.measured.cold_s:.2f}",
    "MB resident": lambda row: _memory(row, "resident"),
    "of it file pages": lambda row: _memory(row, "file_backed"),
    "MB peak": lambda row: _memory(row, "peak"),
}
_OFFLINE: Mapping[str, Cell] = {
    "texts/s": _offline(lambda row, timing: _number(timing.texts_per_second, 0)),
    "tokens/s": _offline(lambda row, timing: _number(timing.tokens_per_second, 0)),
    "time × the first row's": _offline(_ratio),
    "of its floor": _offline(_of_floor),
    "cores used": _offline(lambda row, timing: _number(timing.cores, 1)),
}
_SERVED: Mapping[str, Cell] = {
    "texts/s within the bound": lambda row: _number(row.served.rate, 0) if row.served else "",
    "p99 ms there": lambda row: _number(row.served.p99_ms, 1) if row.served else "",
    "bound ms": lambda row: _number(row.served.bound_ms, 0) if row.served else "",
}
_DETAILS: Mapping[str, TimingCell] = {
    "tokens": lambda row, timing: _number(timing.tokens / timing.texts * timing.texts_per_call, 0),
    "p50 ms": lambda row, timing: _number(timing.total.median, 2),
    "p90": lambda row, timing: _number(timing.total.p90, 2),
    "p99": lambda row, timing: _number(timing.total.p99, 2),
    "× the first row's": _ratio,
    "tokenising ms": lambda row, timing: _number(_median(timing.tokenise), 3),
    "engine ms": lambda row, timing: _number(_median(timing.engine), 2),
    "facade adds, less tokenising": _overhead,
    "of its floor": _of_floor,
    "cores": lambda row, timing: _number(timing.cores, 1),
    "watts": lambda row, timing: _number(timing.watts, 0),
}
