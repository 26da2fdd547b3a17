"""What does not come along through a fork: threads, and so the locks that they held."""

from __future__ import annotations

import os
from threading import Lock
from types import TracebackType
from weakref import WeakSet


class ForkSafeLock:
    """A lock that is free in a forked process, whoever held it in the parent; a context manager."""

    def __init__(self) -> None:
        self._lock = Lock()
        _ALL.add(self)

    def renew(self) -> None:
        """Makes it free. For the one thread that a forked process begins with."""
        self._lock = Lock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


def is_forked() -> bool:
    """Whether this process is a fork of one that had imported this module."""
    return os.getpid() != _IMPORTED_BY


_ALL: WeakSet[ForkSafeLock] = WeakSet()
_IMPORTED_BY = os.getpid()


def _in_child() -> None:
    for lock in list(_ALL):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
