"""Graphs under transformers.js' names, and in the runtime that it uses."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from ringkas import build_all, load, open_artifact, open_checkpoint
from ringkas.errors import TargetError
from ringkas.export.build import BuildOptions
from ringkas.export.to_onnx.graph import TRANSFORMERS_JS_FILES

PEER = Path(__file__).parents[3] / "benchmarks" / "peers" / "onnxruntime_web.py"
# What transformers.js appends to `model` for its dtypes fp32, fp16, q8, q4 and q2.
SUFFIXES = {
    "onnx-fp32": "", "onnx-fp16": "_fp16", "onnx-int8": "_quantized", "onnx-int4": "_q4", "onnx-int3": "_q2",
}  # fmt: skip
FEW_BITS = ("onnx-int8", "onnx-int4", "onnx-int3")


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint: Callable[..., Path]) -> Path:
    return small_checkpoint(width=64, max_length=64)


@pytest.fixture(scope="module")
def dist(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("js") / "dist"
    build_all(open_checkpoint(checkpoint), FEW_BITS, out, BuildOptions(transformers_js=True))
    return out


def test_names() -> None:
    assert {
        target: f"onnx/model{suffix}.onnx" for target, suffix in SUFFIXES.items()
    } == TRANSFORMERS_JS_FILES


@pytest.mark.parametrize("target", FEW_BITS)
def test_the_graph_has_the_name_and_runs(target: str, dist: Path) -> None:
    artifact = open_artifact(dist / target)
    assert artifact.manifest.model_file == f"onnx/model{SUFFIXES[target]}.onnx"
    assert [file.name for file in (dist / target / "onnx").iterdir()] == [artifact.model_path.name]
    onnx.checker.check_model(str(artifact.model_path))
    with load(dist / target) as encoder:
        assert encoder.encode("a text").shape == (64,)


def test_the_card_promises_what_finds_the_name(dist: Path) -> None:
    card = (dist / "onnx-int8" / "README.md").read_text(encoding="utf-8")
    assert "With transformers.js" in card
    assert "SentenceTransformer" not in card


def test_what_transformers_js_cannot_read_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    options = BuildOptions(transformers_js=True)
    with pytest.raises(TargetError, match=r"transformers\.js cannot read pytorch-fp32"):
        build_all(open_checkpoint(checkpoint), ["pytorch-fp32"], tmp_path / "dist", options)


@pytest.mark.parametrize("target", FEW_BITS)
def test_onnxruntime_web_gives_the_same_vectors(target: str, dist: Path) -> None:
    packages = os.environ.get("RINGKAS_ONNXRUNTIME_WEB")
    if packages is None or shutil.which("node") is None:
        pytest.skip("needs Node, and RINGKAS_ONNXRUNTIME_WEB, a folder where npm installed onnxruntime-web")
    spec = importlib.util.spec_from_file_location("onnxruntime_web_peer", PEER)
    assert spec is not None
    assert spec.loader is not None
    peer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(peer)
    peer.install(Path(packages))
    found = peer.compare(dist / target, Path(packages))
    assert found["web_with_native_min"] > 0.995
