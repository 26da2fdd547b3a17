"""The machine that a measurement ran on: what it is, and what a process tree took from it.

Memory, time and energy are read from Linux's /proc and /sys; elsewhere they are None, never a guess.
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
        memory_bytes=_total_memory(),
        system=f"{platform.system()} {platform.machine()}",
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        gpu=_gpu(),
    )


def memory_of(process: int) -> Memory | None:
    """Of a process and its descendants; a page that two of them share counts twice."""
    statuses = [_status(one) for one in _tree(process)]
    if not statuses or not statuses[0]:
        return None
    return Memory(*(sum(one.get(key, 0) for one in statuses) for key in ("VmRSS", "RssFile", "VmHWM")))


def cpu_seconds(process: int) -> float | None:
    """Processor time that a process and its descendants have used, over all threads."""
    total, found = 0.0, False
    for one in _tree(process):
        try:
            fields = (_PROC / str(one) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        found = True
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
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


def _tree(process: int) -> list[int]:
    """The process and all below it."""
    parents: dict[int, list[int]] = {}
    for folder in _PROC.glob("[0-9]*") if _PROC.is_dir() else ():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it ended while we looked
        parents.setdefault(parent, []).append(int(folder.name))
    found = [process]
    for one in found:
        found += parents.get(one, [])
    return found


def _status(process: int) -> dict[str, int]:
    try:
        text = (_PROC / str(process) / "status").read_text()
    except OSError:
        return {}
    return {key: int(value) * 1024 for key, value in re.findall(r"(\w+):\s+(\d+) kB", text)}


def _cpu_model() -> str:
    try:
        found = re.search(r"model name\s*: (.+)", (_PROC / "cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or "unknown"


def _total_memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # RAPL is for root alone on most systems
        return None
