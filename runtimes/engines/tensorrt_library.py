"""Which TensorRT is installed: found by its modules, told apart by attributes, never by version numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ringkas.errors import MissingExtra
from ringkas.extras import TENSORRT_BUILDERS, TENSORRT_RTX, TENSORRT_RUNNERS, Modules, is_there


@dataclass(frozen=True)
class Library:
    """One of NVIDIA's inference libraries and the packages that it may come in.

    Args:
        name: as messages call it.
        extra: of this project, that brings it.
        builders: packages that build and run plans.
        runners: packages that only run them.
        ahead_of_time: whether it builds, with no GPU at hand, for a GPU generation that is named.
    """

    name: str
    extra: str
    builders: tuple[Modules, ...]
    runners: tuple[Modules, ...] = ()
    ahead_of_time: bool = False


# By the engine that a manifest names.
LIBRARIES: Mapping[str, Library] = {
    "tensorrt": Library(
        "TensorRT",
        "tensorrt",
        TENSORRT_BUILDERS,
        TENSORRT_RUNNERS,
    ),
    "tensorrt-rtx": Library(
        "TensorRT-RTX",
        "tensorrt-rtx",
        TENSORRT_RTX,
        ahead_of_time=True,
    ),
}


def find_library(engine: str, *, building: bool) -> Modules | None:
    """The modules of the library that builds (or runs) for `engine`, or None when there is none here."""
    library = LIBRARIES[engine]
    candidates = library.builders if building else library.builders + library.runners
    return next((names for names in candidates if all(map(is_there, names))), None)


def load_library(engine: str, *, building: bool) -> Any:
    """Imports it.

    Raises:
        MissingExtra: it is not installed.
    """
    names = find_library(engine, building=building)
    if names is None:
        library = LIBRARIES[engine]
        raise MissingExtra(library.name, library.extra)
    return [import_module(name) for name in names][-1]


def get_log(trt: Any) -> Any:
    """The `ILogger` of a library, which keeps it off stderr; `take()` gives the errors since the last call.

    There is one a process: the library ignores every logger after the first that it meets.
    """
    if trt.__name__ not in _logs:

        class Log(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self._errors: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                    self._errors.append(message)

            def take(self) -> str:
                errors, self._errors = self._errors, []
                return "; ".join(errors[:2])

        _logs[trt.__name__] = Log()
    return _logs[trt.__name__]


_logs: dict[str, Any] = {}
