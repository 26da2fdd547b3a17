"""The machine that a measurement ran on: what it is, and what a process tree took from it.

Memory and time come from psutil, energy from Linux's /sys or the GPU's driver; what is not told is None,
never a guess.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import msgspec
import psutil

from ringkas.machine import cpu_features

_PROC = Path("/proc")
_POWERCAP = Path("/sys/class/powercap")


class Machine(msgspec.Struct, frozen=True):
    """What a latency depends on besides the software. `load` is the load average when the run began."""

    cpu: str
    cores: int
    features: tuple[str, ...]
    memory_bytes: int | None
    system: str
    load: float | None
    gpu: str | None = None


class Memory(msgspec.Struct, frozen=True):
    """Bytes of a process tree: held now, of which pages of mapped files, and the most it ever held."""

    resident: int
    file_backed: int
    peak: int


def describe_machine() -> Machine:
    """This machine."""
    return Machine(
        cpu=_cpu_model(),
        cores=os.cpu_count() or 1,
        features=cpu_features(),
        memory_bytes=psutil.virtual_memory().total,
        system=f"{platform.system()} {platform.machine()}",
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        gpu=_gpu(),
    )


def memory_of(process: int) -> Memory | None:
    """Of a process and its descendants; a page that two of them share counts twice."""
    found = []
    for one in _tree(process):
        with suppress(psutil.Error):
            held = one.memory_info()
            # On Linux `shared` are the pages of files, of shared memory too; other systems do not tell.
            found.append(Memory(held.rss, getattr(held, "shared", 0), _peak(one.pid) or held.rss))
    if not found:
        return None
    return Memory(*(sum(getattr(one, key) for one in found) for key in Memory.__struct_fields__))


def cpu_seconds(process: int) -> float | None:
    """Processor time that a process and its descendants have used, over all threads."""
    total, found = 0.0, False
    for one in _tree(process):
        with suppress(psutil.Error):
            times = one.cpu_times()
            total, found = total + times.user + times.system, True
    return total if found else None


class EnergyMeter:
    """Joules of the processor packages (RAPL) and GPUs (NVML), for the whole machine, where readable."""

    def __init__(self, powercap: Path = _POWERCAP) -> None:
        zones = sorted(powercap.glob("intel-rapl:?")) if powercap.is_dir() else []
        self._zones = [zone for zone in zones if _number(zone / "energy_uj") is not None]
        self._gpus = _gpu_counters()
        self._before = self._read()

    def joules(self) -> float | None:
        """Since the meter was made; None where nothing can be read."""
        if not self._before:
            return None
        return sum(map(_spent, self._read(), self._before))

    def _read(self) -> list[_Counter]:
        packages = [
            _Counter(_number(zone / "energy_uj") or 0, _number(zone / "max_energy_range_uj") or 0, 1e6)
            for zone in self._zones
        ]
        return packages + [_Counter(millijoules(), 0, 1e3) for millijoules in self._gpus]


@dataclass(frozen=True)
class _Counter:
    """A counter's value, the value at which it starts again from zero, and its steps a joule."""

    value: int
    wraps_at: int
    per_joule: float


def _spent(now: _Counter, before: _Counter) -> float:
    steps = now.value - before.value
    return (steps if steps >= 0 else steps + now.wraps_at) / now.per_joule


def _gpu_counters() -> list[Callable[[], int]]:
    """One function a GPU: the millijoules it has used since the driver was loaded."""
    nvml = _nvml()
    if nvml is None:
        return []
    counters: list[Callable[[], int]] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        with suppress(nvml.NVMLError):
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            read = partial(nvml.nvmlDeviceGetTotalEnergyConsumption, handle)
            read()  # older GPUs do not count
            counters.append(read)
    return counters


def _gpu() -> str | None:
    nvml = _nvml()
    if nvml is None:
        return None
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        megahertz = nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
        name, driver = nvml.nvmlDeviceGetName(handle), nvml.nvmlSystemGetDriverVersion()
    except nvml.NVMLError:  # there is none, or it does not say
        return None
    return f"{name}, {megahertz} MHz, driver {driver}"


@cache
def _nvml() -> Any | None:
    """The package nvidia-ml-py with its library started; None without it or without a driver."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _tree(process: int) -> list[psutil.Process]:
    """The process and all below it; none where it has ended."""
    try:
        root = psutil.Process(process)
        if root.status() == psutil.STATUS_ZOMBIE:
            return []
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _peak(process: int) -> int | None:
    """The most it ever held, which psutil tells on Windows alone: of Linux's /proc."""
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", (_PROC / str(process) / "status").read_text())
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _cpu_model() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", (_PROC / "cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown"


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # RAPL is for root alone on most systems
        return None
