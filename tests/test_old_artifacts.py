"""Artifacts that ringkas 0.1.0 wrote load and verify.

They are of random BERTs of one layer, 32 wide (`onnx-int4`: 64), with conftest.py's tiny Unigram tokenizer.
"""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path

import numpy as np
import pytest

import ringkas
from ringkas.artifact import open_artifact
from ringkas.errors import ArtifactError

ARCHIVE = Path(__file__).parent / "data" / "artifacts-0.1.0.tar.xz"
TARGETS = ("pytorch-fp32", "onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int4", "gguf-q8_0")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("target", TARGETS)
def test_artifact_loads_and_verifies(old: Path, target: str) -> None:
    if target.startswith("gguf") and importlib.util.find_spec("llama_cpp") is None:
        pytest.skip("llama-cpp-python is not installed: pip install 'ringkas[gguf]'")
    artifact = open_artifact(old / target)
    assert artifact.manifest.format_version == 1
    assert ringkas.verify(artifact.path).passed
    with ringkas.load(artifact.path) as encoder:
        vectors = encoder.encode(["a text", "another"])
    assert vectors.shape == (2, artifact.manifest.encoding.dimension)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


def test_damage_to_an_old_artifact_is_seen_by_its_sha256(old: Path) -> None:
    weights = old / "pytorch-fp32" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"model\.safetensors was altered.*SHA-256"):
        ringkas.load(weights.parent)
