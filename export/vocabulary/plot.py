"""Rows kept against the share of texts that are segmented as before, as a PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ringkas.errors import TargetError
from ringkas.extras import require
from ringkas.files import require_folder_of


@dataclass(frozen=True)
class Curve:
    """`identical` holds, by language, the share of texts at each of `rows`; `marks` are named row counts."""

    title: str
    rows: Sequence[int]
    identical: Mapping[str, Sequence[float]]
    marks: Mapping[str, int] = field(default_factory=dict)


def check_place(file: Path) -> None:
    """Asks for what drawing into `file` needs, before there is anything to draw.

    Raises:
        TargetError: it is no PNG.
        ArtifactError: there is no folder for it.
        MissingExtra: matplotlib is not installed.
    """
    if file.suffix != ".png":
        raise TargetError(f"{file} does not end in .png", fix="Name a .png, such as rows.png")
    require_folder_of(file)
    require("plot", "matplotlib")


def draw(curve: Curve, file: Path) -> None:
    """Writes the picture to `file`, which `check_place` allows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for language, shares in curve.identical.items():
        axes.plot(curve.rows, [100 * share for share in shares], marker="o", markersize=3, label=language)
    for name, rows in curve.marks.items():
        axes.axvline(rows, color="grey", linestyle="--", linewidth=1)
        axes.annotate(
            f"{name}: {rows:,}", (rows, axes.get_ylim()[0]), rotation=90, va="bottom", ha="right", fontsize=8
        )
    axes.set_title(curve.title)
    axes.set_xlabel("rows kept")
    axes.set_ylabel("texts segmented as before, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, ncols=2)
    figure.savefig(file, dpi=120)
