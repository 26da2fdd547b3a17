"""`ringkas doctor`: what runs on this machine, and what to install for the rest."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata

import msgspec

from ringkas.errors import MissingExtra, RingkasError
from ringkas.extras import PARTS, TELEMETRY_SWITCH, is_there, load_onnxruntime
from ringkas.machine import cpu_features


class Part(msgspec.Struct, frozen=True):
    """One ability: whether it is there, the versions found, and the command that brings it.

    `problem` says what is wrong with a package that is there but cannot be used.
    """

    purpose: str
    ready: bool
    versions: dict[str, str]
    install: str
    problem: str = ""


class Diagnosis(msgspec.Struct, frozen=True):
    """The machine and every part.

    `products` is the time of 8-bit matrix products as a share of float32's, for a `short` and a `long` text;
    empty where it was not measured. `telemetry` says whether what runs here reports on what it does.
    """

    machine: str
    cores: int
    cpu_features: tuple[str, ...]
    providers: tuple[str, ...]
    parts: tuple[Part, ...]
    products: dict[str, float] = {}
    telemetry: str = ""


def diagnose() -> Diagnosis:
    """Looks at what is installed; imports nothing heavy but onnxruntime."""
    providers: tuple[str, ...] = ()
    broken = None
    try:
        providers = tuple(load_onnxruntime().get_available_providers())
    except MissingExtra:
        pass
    except RingkasError as error:
        broken = error
    packages = metadata.packages_distributions()
    return Diagnosis(
        machine=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        cores=os.cpu_count() or 1,
        cpu_features=cpu_features(),
        providers=providers,
        parts=tuple(
            _part(purpose, extra, next(filter(_are_there, forms), ()), packages, broken)
            for purpose, extra, forms in PARTS
        ),
        telemetry=_telemetry(),
    )


def _telemetry() -> str:
    switch = os.environ.get(TELEMETRY_SWITCH, "1")
    if switch == "1":
        return f"ringkas has none; ONNX Runtime's is off in its processes ({TELEMETRY_SWITCH}=1)"
    return f"ringkas has none; ONNX Runtime's is as {TELEMETRY_SWITCH}={switch} says"


def _part(
    purpose: str,
    extra: str,
    modules: tuple[str, ...],
    packages: Mapping[str, list[str]],
    broken: RingkasError | None,
) -> Part:
    """What is there of a part; `modules` are those of the form that was found, none where none was."""
    found = [package for module in modules for package in packages.get(module.partition(".")[0], ())]
    versions = {package: metadata.version(package) for package in found}
    if broken is not None and "onnxruntime" in modules:
        return Part(
            purpose, False, versions, broken.fix.removeprefix("Run: "), f"{broken.what}: {broken.why}"
        )
    return Part(purpose, bool(modules), versions, f"pip install 'ringkas[{extra}]'")


def _are_there(modules: tuple[str, ...]) -> bool:
    return all(map(is_there, modules))
