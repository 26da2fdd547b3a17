"""Progress on stderr: one line a stage, so that it reads well in a terminal and in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS = 5.0  # between two lines of one stage


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

    @contextmanager
    def steps(self, message: str, total: int) -> Iterator[Callable[[], None]]:
        """A stage of `total` steps of about the same length; what it gives is called after each.

        Now and then says how many are done, and how long the others will take if they take as long.
        """
        started = said = time.perf_counter()
        done = 0

        def step() -> None:
            nonlocal said, done
            done += 1
            now = time.perf_counter()
            if done < total and now - said >= _SECONDS:
                said = now
                left = (now - started) / done * (total - done)
                self.say(f"  {message}: {done} of {total}, about {left:.0f} s more")

        with self.stage(message):
            yield step


QUIET = Progress(quiet=True)
