"""What a search found, point by point: as JSON, and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ringkas.files import write_json
from ringkas.progress import Progress
from ringkas.runtimes.measure.intervals import Interval

JSON_FILE, PICTURE_FILE = "frontier.json", "frontier.png"
# Cosines nearer to 1 than this are drawn here: the axis is logarithmic.
_LEAST_LOSS = 1e-7
_TICKS = tuple(step * 10**power for power in range(-3, 4) for step in (1, 1.5, 2, 3, 5, 7))


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One form of the checkpoint, measured.

    Args:
        name: what it is in words.
        target: the target whose artifact it is.
        bytes: of the whole folder, tokenizer included.
        cosine_min: with the reference, of the texts that choose.
        cosine_mean: of the same.
        cosine_expected: what the least of many more texts is expected to be: the choice goes by this.
        latency: of single texts, in milliseconds, by case.
        scheme: as the manifest records it.
    """

    name: str
    target: str
    bytes: int
    cosine_min: float
    cosine_mean: float
    cosine_expected: float
    latency: dict[str, Interval]
    scheme: dict[str, Any]

    @property
    def milliseconds(self) -> float:
        """The geometric mean of the cases' medians: short and long texts count alike."""
        product = 1.0
        for interval in self.latency.values():
            product *= interval.median
        return float(product ** (1 / len(self.latency)))


class Frontier(msgspec.Struct, frozen=True, kw_only=True):
    """All points of a search. `chosen` is a point's name, None when none was good enough; `best` names those
    that no other beats.

    `texts_fitted` calibrated the points, `texts_choosing` compared them; the probe set did neither.
    """

    points: tuple[Point, ...]
    wish: dict[str, Any]
    texts_fitted: int
    texts_choosing: int
    chosen: str | None = None
    best: tuple[str, ...] = ()
    tools: dict[str, str] = {}
    schema_version: int = 1


def best_of(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats in bytes, nearness and speed alike: smallest first."""
    return sorted(
        (one for one in points if not any(_beats(other, one) for other in points)), key=lambda one: one.bytes
    )


def _beats(a: Point, b: Point) -> bool:
    ours = (-a.bytes, a.cosine_min, -a.milliseconds)
    theirs = (-b.bytes, b.cosine_min, -b.milliseconds)
    return ours != theirs and all(x >= y for x, y in zip(ours, theirs, strict=True))


def write_frontier(frontier: Frontier, folder: Path, progress: Progress) -> None:
    """Writes the JSON and, where matplotlib is there, the picture into `folder`."""
    write_json(folder / JSON_FILE, frontier)
    try:
        draw(frontier, folder / PICTURE_FILE)
    except ModuleNotFoundError:
        progress.say(f"no {PICTURE_FILE}: matplotlib is not installed. Run: pip install 'ringkas[plot]'")


def draw(frontier: Frontier, file: Path) -> None:
    """Size against what the cosine lacks to 1; colour is latency, a ring the choice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = sorted(frontier.points, key=lambda one: one.bytes)
    sizes = [one.bytes / 1e6 for one in points]
    lost = [max(1 - one.cosine_min, _LEAST_LOSS) for one in points]
    shown = axes.scatter(sizes, lost, c=[one.milliseconds for one in points], cmap="viridis_r", zorder=3)
    figure.colorbar(shown, label="milliseconds a text (geometric mean of the lengths)")
    for number, (one, x, y) in enumerate(zip(points, sizes, lost, strict=True), 1):
        axes.annotate(str(number), (x, y), xytext=(0, 6), textcoords="offset points", ha="center", fontsize=8)
        if one.name == frontier.chosen:
            axes.scatter([x], [y], s=160, facecolors="none", edgecolors="tab:red", zorder=4)
    listed = [
        f"{number}  {one.name}: {one.bytes / 1e6:.1f} MB, {one.cosine_min:.5f}"
        + (" (chosen)" if one.name == frontier.chosen else "")
        for number, one in enumerate(points, 1)
    ]
    axes.text(0.98, 0.03, "\n".join(listed), transform=axes.transAxes, ha="right", va="bottom", fontsize=7.5)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.invert_yaxis()
    ticks = [tick for tick in _TICKS if min(sizes) * 0.8 <= tick <= max(sizes) * 1.2]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.xaxis.minorticks_off()
    axes.set_xlabel("megabytes, tokenizer included")
    axes.set_ylabel("1 - cosine minimum")
    axes.set_title(f"{frontier.texts_choosing} texts that calibrated nothing")
    axes.grid(alpha=0.3, which="both")
    figure.savefig(file, dpi=120)
