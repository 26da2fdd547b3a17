"""`verify` holds on honest artifacts and fails on sabotaged ones, with and without the reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from safetensors.numpy import load_file, save_file

from ringkas import RingkasError, load, open_artifact, open_checkpoint, verify
from ringkas.artifact import Source, manifest_checksum, seal
from ringkas.checkpoint import Checkpoint
from ringkas.export.build import build_all
from ringkas.runtimes.parity import verify as verifying
from ringkas.runtimes.parity.judge import cosine
from ringkas.runtimes.parity.probe import load_probe

ArtifactCopy = Callable[[str], Path]
NARROW = {"hidden_size": 96, "num_hidden_layers": 1, "intermediate_size": 192}


@pytest.mark.parametrize("target", ["pytorch-fp32", "onnx-fp32", "onnx-fp16"])
@pytest.mark.parametrize("reference", [None, "demo"])
def test_honest_artifacts_pass(artifact_copy: ArtifactCopy, target: str, reference: str | None) -> None:
    path = artifact_copy(target)
    report = verify(path, reference=reference)
    floor = 0.9995 if target == "onnx-fp16" else 0.99999
    assert report.passed
    assert report.cosine_min >= floor
    assert [group.group for group in report.groups] == ["en", "und"]
    assert json.loads((path / "parity.json").read_text(encoding="utf-8"))["passed"] is True


def test_own_texts_are_judged_beside_the_probe_set(
    artifact_copy: ArtifactCopy, lines_of: Any, tmp_path: Path
) -> None:
    file, lines = tmp_path / "en.txt", lines_of("en")[:200]
    file.write_text("\n".join(lines), encoding="utf-8")
    report = verify(artifact_copy("onnx-fp32"), reference="demo", texts=[file])
    own = next(group for group in report.groups if group.group == "en.txt")
    assert own.texts == len(set(lines))
    assert own.cosine_min >= 0.99999
    assert report.passed


def test_stored_vectors_stand_for_the_reference(demo_artifacts: Path) -> None:
    stored = load_probe(demo_artifacts / "onnx-fp32")
    with load(demo_artifacts / "pytorch-fp32") as encoder:
        vectors = encoder.encode(stored.texts)
    assert len(stored) == 52
    assert cosine(vectors, stored.vectors).min() > 1 - 1e-6
    assert (demo_artifacts / "onnx-fp32" / "parity" / "probe.npz").stat().st_size < 60_000


def test_own_texts_need_a_reference(demo_artifacts: Path, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("a text\n", encoding="utf-8")
    with pytest.raises(RingkasError, match="needs --reference"):
        verify(demo_artifacts / "onnx-fp32", texts=[tmp_path / "own.txt"])


def test_reference_of_another_model_is_an_error_or_a_failure(
    artifact_copy: ArtifactCopy, shapes: Any, tiny_unigram: Any, make_checkpoint: Any, tmp_path: Path
) -> None:
    shallow = shapes["bert"](tiny_unigram, num_hidden_layers=1, intermediate_size=192)
    other = make_checkpoint(tmp_path / "other", shallow)
    assert not verify(artifact_copy("onnx-fp32"), reference=other).passed
    wider = make_checkpoint(tmp_path / "wider", shapes["xlm-roberta"](tiny_unigram, **NARROW))
    with pytest.raises(RingkasError, match="another model"):
        verify(tmp_path / "onnx-fp32", reference=wider)


def test_flipped_weight_fails(artifact_copy: ArtifactCopy) -> None:
    path = artifact_copy("onnx-fp32")
    model = onnx.load(path / "onnx" / "model.onnx")
    weight = max(
        model.graph.initializer, key=lambda one: 0 if "embeddings" in one.name else np.prod(one.dims)
    )
    values = numpy_helper.to_array(weight).copy()
    values[0] = -values[0]
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, path / "onnx" / "model.onnx")
    with pytest.raises(RingkasError, match=r"was altered|bytes, not"):
        verify(path)
    _assert_falls_short(path, "cosine minimum")


def test_dropped_attention_mask_fails(artifact_copy: ArtifactCopy) -> None:
    path = artifact_copy("onnx-fp32")
    model = onnx.load(path / "onnx" / "model.onnx")
    # As an export without the input would: attention and pooling see the padding.
    ones = [
        onnx.helper.make_node("Shape", ["attention_mask"], ["sabotage_shape"]),
        onnx.helper.make_node(
            "ConstantOfShape", ["sabotage_shape"], ["sabotage_ones"],
            value=numpy_helper.from_array(np.array([1], dtype=np.int64)),
        ),
    ]  # fmt: skip
    users = [node for node in model.graph.node if "attention_mask" in node.input]
    assert users
    for node in users:
        node.input[:] = ["sabotage_ones" if name == "attention_mask" else name for name in node.input]
    for node in reversed(ones):
        model.graph.node.insert(0, node)
    onnx.save(model, path / "onnx" / "model.onnx")
    _assert_falls_short(path, "cosine minimum")


def test_swapped_tokenizer_rows_fail(artifact_copy: ArtifactCopy) -> None:
    path = artifact_copy("onnx-fp32")
    tokenizer = json.loads((path / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["the"], vocabulary["of"] = vocabulary["of"], vocabulary["the"]
    (path / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    _assert_falls_short(path, "get other token ids")


def test_wrong_position_offset_fails(
    shapes: Any, ko_en: str, tiny_unigram: Any, make_checkpoint: Any, tmp_path: Path
) -> None:
    """XLM-R's positions start at pad_token_id + 1: a graph of the same weights without that is caught."""
    path = make_checkpoint(tmp_path / ko_en, shapes["xlm-roberta"](tiny_unigram, **NARROW))
    honest = build_all(open_checkpoint(path), ["onnx-fp32"], tmp_path / "honest")[0]
    assert honest.report.passed
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    (path / "config.json").write_text(json.dumps(config | {"pad_token_id": 0}), encoding="utf-8")
    wrong = build_all(open_checkpoint(path), ["onnx-fp32"], tmp_path / "wrong")[0]
    graph = honest.artifact.path / "onnx" / "model.onnx"
    graph.write_bytes((wrong.artifact.path / "onnx" / "model.onnx").read_bytes())
    _assert_falls_short(honest.artifact.path, "cosine minimum")


def _assert_falls_short(path: Path, why: str) -> None:
    """Signs the sabotaged folder anew, as a broken converter would, and verifies it."""
    manifest = json.loads((path / "ringkas.json").read_text(encoding="utf-8"))
    manifest["files"] = {
        name: entry | {"size": (path / name).stat().st_size} for name, entry in manifest["files"].items()
    }
    signed = manifest | {"checksum": manifest_checksum(manifest)}
    (path / "ringkas.json").write_text(json.dumps(signed), encoding="utf-8")
    seal(path, open_artifact(path).manifest)
    report = verify(path)
    assert not report.passed
    assert any(why in failure for failure in report.failures), report.failures
    with pytest.raises(RingkasError, match="failed its parity check"):
        load(path)
    load(path, allow_failed=True).close()


def test_report_on_other_texts_or_another_model_is_not_recorded(
    artifact_copy: ArtifactCopy, shapes: Any, tiny_unigram: Any, make_checkpoint: Any, tmp_path: Path
) -> None:
    path = artifact_copy("onnx-fp32")
    before = (path / "parity.json").read_bytes()
    (tmp_path / "own.txt").write_text("one\ntwo\nthree\n", encoding="utf-8")
    verify(path, reference="demo", texts=[tmp_path / "own.txt"])
    shallow = shapes["bert"](tiny_unigram, num_hidden_layers=1, intermediate_size=192)
    assert not verify(path, reference=make_checkpoint(tmp_path / "other", shallow)).passed
    assert (path / "parity.json").read_bytes() == before
    load(path).close()


def test_a_reference_of_the_same_name_with_other_weights_is_not_recorded(
    small_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    own, other = small_checkpoint(), small_checkpoint()
    path = build_all(open_checkpoint(own), ["onnx-fp32"], tmp_path)[0].artifact.path
    weights = load_file(other / "model.safetensors")
    layer = "encoder.layer.0.attention.output.dense.weight"
    save_file({**weights, layer: -weights[layer]}, other / "model.safetensors", {"format": "pt"})
    before = (path / "parity.json").stat().st_mtime_ns
    assert not verify(path, reference=other).passed
    assert (path / "parity.json").stat().st_mtime_ns == before
    assert verify(path, reference=own).passed
    assert (path / "parity.json").stat().st_mtime_ns > before


def test_a_hub_reference_is_opened_at_the_revision_it_was_built_from(
    artifact_copy: ArtifactCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = artifact_copy("onnx-fp32")
    manifest = open_artifact(path).manifest
    seal(path, msgspec.structs.replace(manifest, source=Source("org/model", "abc123")))
    asked = []

    def opened(model: str, revision: str | None = None, **_: bool) -> Checkpoint:
        asked.append((model, revision))
        return replace(open_checkpoint("demo"), origin=model)

    monkeypatch.setattr(verifying, "open_checkpoint", opened)
    assert verify(path, reference="org/model").passed
    assert verify(path, reference="org/other").passed
    assert asked == [("org/model", "abc123"), ("org/other", None)]
