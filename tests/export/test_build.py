"""Builds: what lands in the folder, what a failure or a kill leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import ringkas
from ringkas import RingkasError, build, build_all, open_artifact, open_checkpoint, texts
from ringkas.runtimes.parity import floors
from ringkas.runtimes.parity.floors import Floor

COMMON = {
    "1_Pooling/config.json", "README.md", "config.json", "config_sentence_transformers.json", "modules.json",
    "parity/probe.npz", "parity/search.npz", "sentence_bert_config.json", "special_tokens_map.json",
    "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip


@pytest.mark.parametrize(
    ("target", "model_file"),
    [
        ("pytorch-fp32", "model.safetensors"),
        ("onnx-fp32", "onnx/model.onnx"),
        ("onnx-fp16", "onnx/model.onnx"),
    ],
)
def test_layout_is_the_one_that_tools_expect(demo_artifacts: Path, target: str, model_file: str) -> None:
    artifact = open_artifact(demo_artifacts / target)
    assert set(artifact.manifest.files) == COMMON | {model_file}
    assert artifact.manifest.model_file == model_file
    artifact.check_files()
    assert sorted(path.name for path in demo_artifacts.iterdir()) == [
        "onnx-fp16",
        "onnx-fp32",
        "pytorch-fp32",
    ]


def test_half_the_bytes_in_fp16(demo_artifacts: Path) -> None:
    sizes = {name: open_artifact(demo_artifacts / name).size for name in ("onnx-fp32", "onnx-fp16")}
    assert 0.5 < sizes["onnx-fp16"] / sizes["onnx-fp32"] < 0.51


def test_manifest_says_where_it_came_from(demo_artifacts: Path) -> None:
    manifest = open_artifact(demo_artifacts / "onnx-fp32").manifest
    assert (manifest.source.model, manifest.source.licence) == ("demo", "apache-2.0")
    assert manifest.languages == ("en",)
    assert {"ringkas", "torch", "onnxruntime"} <= set(manifest.tools)
    text = (demo_artifacts / "onnx-fp32" / "ringkas.json").read_text(encoding="utf-8")
    assert str(Path.home()) not in text
    assert "site-packages" not in text


def test_model_card_has_the_front_matter_of_the_hub(demo_artifacts: Path) -> None:
    card = (demo_artifacts / "onnx-fp16" / "README.md").read_text(encoding="utf-8")
    for line in ("base_model: sentence-transformers/all-MiniLM-L6-v2", "base_model_relation: quantized"):
        assert line in card.split("---")[1]


def test_model_card_code_runs(demo_artifacts: Path) -> None:
    """The card's code without ringkas, executed in the artifact's folder, gives ringkas' vector."""
    folder = demo_artifacts / "onnx-fp32"
    code = (folder / "README.md").read_text(encoding="utf-8").split("Without ringkas:")[1]
    script = code.split("```python\n")[1].split("```")[0] + "\nprint(vector.tolist())"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, check=True
    )
    with ringkas.load(folder) as encoder:
        expected = encoder.encode_query(["how to fix a bicycle tyre"])
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-5)


def test_sentence_transformers_loads_the_folder_with_the_same_vectors(demo_artifacts: Path) -> None:
    from sentence_transformers import SentenceTransformer

    sample = [line for lines in texts.probe(["en"]).values() for line in lines]
    theirs = SentenceTransformer(str(demo_artifacts / "pytorch-fp32"), device="cpu").encode(sample)
    for target in ("pytorch-fp32", "onnx-fp32"):
        with ringkas.load(demo_artifacts / target) as encoder:
            np.testing.assert_allclose(encoder.encode(sample), theirs, atol=1e-6)


def test_artifact_that_falls_short_is_kept_marked_and_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(floors.FLOORS, "fp16", Floor(1.1, 1.1))  # type: ignore[index]
    with pytest.raises(RingkasError, match="was built, but its parity fell short"):
        build("demo", "onnx-fp16", tmp_path)
    assert json.loads((tmp_path / "onnx-fp16" / "parity.json").read_text(encoding="utf-8"))["passed"] is False
    with pytest.raises(RingkasError, match="failed its parity check"):
        ringkas.load(tmp_path / "onnx-fp16")


def test_existing_artifact_is_replaced_only_when_asked_for(tmp_path: Path) -> None:
    place = tmp_path / "pytorch-fp32"
    build("demo", "pytorch-fp32", tmp_path)
    before = place.stat().st_ino
    with pytest.raises(RingkasError, match=r"exists\. Add --overwrite"):
        build("demo", "pytorch-fp32", tmp_path)
    assert place.stat().st_ino == before
    build("demo", "pytorch-fp32", tmp_path, overwrite=True)
    assert place.stat().st_ino != before
    assert [path.name for path in tmp_path.iterdir()] == ["pytorch-fp32"]


@pytest.mark.parametrize("bad", ["onnx-fp64", ""])
def test_unknown_target_lists_the_known(bad: str, tmp_path: Path) -> None:
    with pytest.raises(RingkasError, match="Choose from: pytorch-fp32, onnx-fp32"):
        build_all(open_checkpoint("demo"), [bad], tmp_path)


def test_killed_build_leaves_the_earlier_artifact(demo_artifacts: Path, tmp_path: Path) -> None:
    place = tmp_path / "onnx-fp32"
    shutil.copytree(demo_artifacts / "onnx-fp32", place)
    command = [
        sys.executable,
        "-m",
        "ringkas",
        "build",
        "demo",
        "--target",
        "onnx-fp32",
        "--out",
        str(tmp_path),
        "--overwrite",
    ]
    for moment in ("writing onnx-fp32 ...", "verifying onnx-fp32 ..."):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if line.strip() == moment:
                break
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        with ringkas.load(place, check=True) as encoder:
            assert encoder.encode("still here").shape == (384,)
    build("demo", "pytorch-fp32", tmp_path)  # another target's build does not stumble over what was left
    subprocess.run(command, check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx-fp32", "pytorch-fp32"]
