"""prove.py: what hangs, crashes or is absent costs its own stage only; its report is written as it goes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

GPU = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu"


@pytest.fixture
def prove(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(GPU))
    return import_module("prove")


def options_of(tmp_path: Path, **changes: Any) -> argparse.Namespace:
    given = {"rehearse": True, "only": None, "seconds": 500.0, "stage": None, "carried": tmp_path}
    return argparse.Namespace(**given | {"out": tmp_path / "proof.json"} | changes)


def outcome(kind: str) -> Callable[..., dict[str, Any]]:
    found = {"measured": {"ms": 1.0}} if kind == "measured" else {kind: "because of this"}
    return lambda name, options, limit: found


@pytest.mark.parametrize("kind", ["measured", "absent", "failed"])
def test_every_stage_is_written_and_said(
    prove: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.setattr(prove, "run_apart", outcome(kind))
    report = prove.prove(options_of(tmp_path))
    assert json.loads((tmp_path / "proof.json").read_text()) == report
    assert set(report["stages"]) == set(prove.STAGES)
    lines = capsys.readouterr().out.splitlines()
    said = {"measured": "Would measure: ", "absent": "skipped, because", "failed": "FAILED, because"}[kind]
    assert len(lines) == len(prove.STAGES)
    assert all(said in line for line in lines)


def test_the_file_holds_what_is_known_when_a_run_is_cut(
    prove: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(name: str, options: Any, limit: float) -> dict[str, Any]:
        if name == list(prove.STAGES)[2]:
            raise KeyboardInterrupt
        return {"measured": {}}

    monkeypatch.setattr(prove, "run_apart", cut)
    with pytest.raises(KeyboardInterrupt):
        prove.prove(options_of(tmp_path))
    assert list(json.loads((tmp_path / "proof.json").read_text())["stages"]) == list(prove.STAGES)[:2]


def test_a_stage_that_hangs_is_ended(prove: Any, tmp_path: Path) -> None:
    found = prove.run_apart("machine", options_of(tmp_path), 0.2)
    assert found == {"failed": "it took longer than 0 s and was ended"}


def test_a_stage_that_crashes_leaves_its_last_words(
    prove: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "prove.py"
    script.write_text(
        "import os, sys\nsys.stderr.write('first\\nlast words')\nsys.stderr.flush()\nos.abort()\n"
    )
    monkeypatch.setattr(prove, "_HERE", tmp_path)
    found = prove.run_apart("machine", options_of(tmp_path), 60)
    assert found == {"failed": "exit status -6: last words"}


def test_no_stage_starts_without_time(prove: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove, "run_apart", outcome("measured"))
    report = prove.prove(options_of(tmp_path, seconds=1.0))
    assert {stage["absent"] for stage in report["stages"].values()} == {"no time was left"}


def test_the_limits_fit_into_one_call(prove: Any) -> None:
    assert sum(stage.limit for stage in prove.STAGES.values()) <= 800
    assert sum(stage.limit for stage in list(prove.STAGES.values())[:6]) <= 560


def test_a_stage_says_why_it_cannot_run(prove: Any, tmp_path: Path) -> None:
    found = prove.run_here(options_of(tmp_path, stage="TensorRT-RTX"))
    assert set(found) == {"absent"}
    assert found["absent"]


def test_the_first_stage_runs_here(prove: Any, tmp_path: Path) -> None:
    found = prove.run_here(options_of(tmp_path, stage="machine"))["measured"]
    assert found["bf16_tflops"] > 0
    assert found["copy_gbytes"] > 0


def test_floors_are_those_of_the_field(prove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """XLM-R-large, 32 x 512 in bf16 on an H200: 10.8 ms; 1 x 32: 0.126 ms."""
    stages, workloads = import_module("stages"), import_module("workloads")
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H200")
    setting = stages.Setting("cuda", False, Path(), Path())
    large = workloads.SHAPES["XLM-R-large"]
    assert stages.floor_ms(setting, large, [512] * 32) == pytest.approx(10.8, rel=0.02)
    assert stages.floor_ms(setting, large, [32]) == pytest.approx(0.126, rel=0.02)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "another card")
    assert stages.floor_ms(setting, large, [32]) is None
