"""A benchmark's pictures as SVG: latency by length, throughput, and size against latency and fidelity."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

from ringkas.extras import require
from ringkas.runtimes.measure.bench import BenchResult, BenchRow
from ringkas.runtimes.measure.cases import MIX, OFFLINE, SINGLE_STREAM
from ringkas.runtimes.measure.table import timing_of

_WIDTH, _HEIGHT, _ROW_HEIGHT = 5.2, 3.8, 0.27
_NEAREST = 1e-7  # float32 vectors do not tell cosines nearer to 1 apart
# Told apart by people who see no red or green (Okabe and Ito), and by marker.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c00")
_MARKERS = "osD^vPX*"


def plots(result: BenchResult) -> list[str]:
    """Each picture that the result has data for, as an `<svg>` element.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    require("plot", "matplotlib")
    drawn = []
    for draw, drawable in ((_latency, _lengths), (_throughput, _offline), (_frontier, _sized)):
        if drawable(result):
            drawn.append(_svg(result, draw))
    return drawn


def _latency(axes: Any, result: BenchResult) -> None:
    for index, row in enumerate(result.rows):
        timings = [timing_of(row, case) for case in _lengths(result)]
        axes.errorbar(
            [timing.tokens / timing.texts for timing in timings],
            [timing.total.median for timing in timings],
            yerr=(
                [timing.total.median - timing.total.low for timing in timings],
                [timing.total.high - timing.total.median for timing in timings],
            ),
            label=row.measured.name, **_look(index, row),
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="milliseconds, median",
             title="One text at a time")  # fmt: skip
    _plain_ticks(axes.xaxis, axes.yaxis)
    _legend(axes)


def _throughput(axes: Any, result: BenchResult) -> None:
    rows = [(row, timing_of(row, OFFLINE)) for row in result.rows][::-1]
    colours = [_look(len(rows) - 1 - index, row)["color"] for index, (row, _) in enumerate(rows)]
    bars = axes.barh([row.measured.name for row, _ in rows], [one.texts_per_second for _, one in rows],
                     color=colours)  # fmt: skip
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    axes.margins(x=0.15)
    axes.set(xlabel="texts a second", title=f"{rows[0][1].texts} texts at once")
    axes.tick_params(axis="y", labelsize=7)


def _frontier(axes: Any, result: BenchResult) -> None:
    for index, row in enumerate(result.rows):
        if row in _sized(result):
            assert row.fidelity is not None
            place = timing_of(row, MIX).total.median, max(_NEAREST, 1 - row.fidelity.cosine_min)
            megabytes, look = (row.size or 0) / 1e6, _look(index, row)
            axes.scatter(*place, s=2 * megabytes + 16, color=look["color"], marker=look["marker"], alpha=0.6,
                         label=f"{row.measured.name}, {megabytes:.0f} MB")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="milliseconds, median of the mix",
             ylabel="1 − least cosine (lower is nearer)", title="Size, latency, fidelity")  # fmt: skip
    _plain_ticks(axes.xaxis)
    axes.margins(0.1)
    _legend(axes)


def _legend(axes: Any) -> None:
    """Below the picture, where any number of rows finds room."""
    axes.legend(fontsize=6.5, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)


def _plain_ticks(*logarithmic: Any) -> None:
    """10 and 100 rather than powers of ten."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    for axis in logarithmic:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())


def _lengths(result: BenchResult) -> list[str]:
    return [
        timing.case
        for timing in result.rows[0].measured.timings
        if timing.scenario == SINGLE_STREAM and timing.case != MIX
    ]


def _offline(result: BenchResult) -> bool:
    return any(timing.scenario == OFFLINE for timing in result.rows[0].measured.timings)


def _sized(result: BenchResult) -> list[BenchRow]:
    """Rows with all three: a size, a fidelity short of perfect, and the mix."""
    if not _lengths(result):
        return []
    return [row for row in result.rows if row.size and row.fidelity and row.fidelity.cosine_min < 1]


def _look(index: int, row: BenchRow) -> dict[str, Any]:
    failed = row.fidelity is not None and row.fidelity.passed is False
    return {
        "color": _COLOURS[index % len(_COLOURS)],
        "marker": _MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],
        "linestyle": ":" if failed else "-",
    }


def _svg(result: BenchResult, draw: Callable[[Any, BenchResult], None]) -> str:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "ringkas", "svg.fonttype": "none", "font.size": 9}):
        # A legend or a bar for each row.
        height = max(_HEIGHT, 1.2 + _ROW_HEIGHT * len(result.rows))
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        axes = figure.subplots()
        draw(axes, result)
        axes.grid(alpha=0.25)
        stream = StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    text = stream.getvalue()
    return text[text.index("<svg") :]
