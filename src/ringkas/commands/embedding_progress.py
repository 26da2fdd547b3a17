"""The progress of `ringkas embed` on stderr: a bar in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ringkas.progress import Progress
from ringkas.runtimes.bulk.embedding import Watch
from ringkas.runtimes.bulk.shards import Totals

_EVERY_S = 10.0


@contextmanager
def show_embedding() -> Iterator[Watch]:
    """Shows texts/s, tokens/s and the time left while the block runs."""
    if not sys.stderr.isatty():
        yield Watch(_Lines().tell)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"),
        TimeRemainingColumn(), console=Console(stderr=True), transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("reading", total=None)
        rates = _Rates()

        def tell(totals: Totals, fraction: float) -> None:
            bar.update(
                task, total=1.0 if fraction else None, completed=fraction, description=rates.words(totals)
            )

        yield Watch(tell)


class _Rates:
    """Of what this process did: a resumed run begins with what was there."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._first: Totals | None = None

    def words(self, totals: Totals) -> str:
        if self._first is None:
            self._first = Totals() if totals.rows <= 4096 else totals
        seconds = max(time.perf_counter() - self._started, 1e-9)
        texts, tokens = totals.vectors - self._first.vectors, totals.tokens - self._first.tokens
        return f"{totals.vectors:,} texts  {texts / seconds:,.0f} texts/s  {tokens / seconds:,.0f} tokens/s"


class _Lines:
    def __init__(self) -> None:
        self._rates, self._last, self._progress = _Rates(), time.perf_counter(), Progress()

    def tell(self, totals: Totals, fraction: float) -> None:
        if time.perf_counter() - self._last < _EVERY_S:
            return
        self._last = time.perf_counter()
        share = f"{fraction:.0%}  " if fraction else ""
        self._progress.say(f"{share}{self._rates.words(totals)}")
