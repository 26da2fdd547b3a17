"""Progress on stderr: one line a stage, so that it reads well in a terminal and in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Announces stages. `Progress(quiet=True)` says nothing; the Python API uses that by default."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet

    def say(self, message: str) -> None:
        if not self._quiet:
            print(message, file=sys.stderr, flush=True)

    @contextmanager
    def stage(self, message: str) -> Iterator[None]:
        """Says what starts now and, when it ends well, how long it took."""
        started = time.perf_counter()
        self.say(f"{message} ...")
        yield
        self.say(f"{message}: {time.perf_counter() - started:.1f} s")


QUIET = Progress(quiet=True)
