"""The machine's record is of this machine, and of the process that was asked about."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ringkas.runtimes.measure import machine
from ringkas.runtimes.measure.machine import EnergyMeter, cpu_seconds, describe_machine, memory_of

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc here")
_HOLD = """
import subprocess, sys
held = bytearray(b"x") * 80_000_000
if sys.argv[1] == "parent":
    subprocess.run([sys.executable, "-c", sys.argv[2], "child", ""], stdin=sys.stdin)
else:
    sum(range(10_000_000))
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_this_machine_is_described() -> None:
    this = describe_machine()
    assert this.cpu
    assert this.cores >= 1
    assert this.memory_bytes is None or this.memory_bytes > 1e8


class Driver:
    """NVML with one GPU; the functions that `refused` names fail."""

    NVML_CLOCK_SM = 1

    class NVMLError(Exception):
        pass

    def __init__(self, *refused: str) -> None:
        self.refused = refused

    def __getattr__(self, name: str) -> Any:
        answers = {
            "nvmlDeviceGetCount": 1, "nvmlDeviceGetHandleByIndex": "gpu 0", "nvmlDeviceGetName": "A GPU",
            "nvmlDeviceGetClockInfo": 1980, "nvmlSystemGetDriverVersion": "1.2",
            "nvmlDeviceGetTotalEnergyConsumption": 7,
        }  # fmt: skip

        def call(*arguments: Any) -> Any:
            if name in self.refused:
                raise self.NVMLError(name)
            return answers[name]

        return call


def test_a_gpu_is_described(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_nvml", Driver)
    assert describe_machine().gpu == "A GPU, 1980 MHz, driver 1.2"
    assert [read() for read in machine._gpu_counters()] == [7]


@pytest.mark.parametrize("refused", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetClockInfo"])
def test_a_gpu_that_refuses_is_none(monkeypatch: pytest.MonkeyPatch, refused: str) -> None:
    monkeypatch.setattr(machine, "_nvml", lambda: Driver(refused, "nvmlDeviceGetTotalEnergyConsumption"))
    assert describe_machine().gpu is None
    assert machine._gpu_counters() == []


@linux
def test_memory_and_time_are_of_the_whole_process_tree() -> None:
    command = [sys.executable, "-c", _HOLD, "parent", _HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        memory, seconds = memory_of(process.pid), cpu_seconds(process.pid)
        process.communicate("")
    assert memory is not None
    assert 160e6 < memory.resident <= memory.peak < 400e6
    assert 0 < memory.file_backed < memory.resident
    assert seconds is not None
    assert seconds > 0.05  # ten million additions, in the child
    assert memory_of(process.pid) is None  # it has ended
    assert cpu_seconds(process.pid) is None


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its counter would add to that of the processor."""
    monkeypatch.setattr("ringkas.runtimes.measure.machine._gpu_counters", list)


@pytest.mark.usefixtures("no_gpu")
def test_energy_is_the_counters_difference(tmp_path: Path) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "max_energy_range_uj").write_text("10000000\n")
    (zone / "energy_uj").write_text("4000000\n")
    meter = EnergyMeter(tmp_path)
    (zone / "energy_uj").write_text("6500000\n")
    assert meter.joules() == pytest.approx(2.5)
    (zone / "energy_uj").write_text("1000000\n")  # it started again from zero
    assert meter.joules() == pytest.approx(7.0)


@pytest.mark.usefixtures("no_gpu")
def test_unreadable_energy_is_none(tmp_path: Path) -> None:
    assert EnergyMeter(tmp_path / "absent").joules() is None
