"""What a graph's clients are told of it: transformers.js by config.json, people by the card; and one file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringkas import build_all, load, open_checkpoint
from ringkas.artifact import Artifact
from ringkas.errors import ArtifactError, TargetError
from ringkas.export.build import BuildOptions
from ringkas.export.recipe import recipe_of
from ringkas.export.to_onnx import graph
from ringkas.export.to_onnx.browser import CONFIG_KEY, describe_graphs
from ringkas.runtimes.engines import onnxruntime_engine
from ringkas.spec import INPUTS, SENTENCE_OUTPUT

TARGETS = ["onnx-fp16", "onnx-int8"]


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint: Callable[..., Path]) -> Path:
    return small_checkpoint(width=64, max_length=64)


@pytest.fixture
def make(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Artifact]]:
    """Builds with the token table large enough to lie beside the graph."""
    monkeypatch.setattr(graph, "MAPPED_FROM", 4096)

    def build(**options: Any) -> list[Artifact]:
        built = build_all(
            open_checkpoint(checkpoint), TARGETS, tmp_path, BuildOptions(witness=False, **options)
        )
        return [one.artifact for one in built]

    return build


def told(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text("utf-8"))[CONFIG_KEY]


def test_weights_beside_the_graph_are_told_of(make: Callable[..., list[Artifact]]) -> None:
    for artifact in make():
        assert (artifact.path / "onnx" / "model.onnx_data").is_file()
        assert told(artifact.path) == {"dtype": "fp32", "use_external_data_format": {"model.onnx": 1}}
        card = (artifact.path / "README.md").read_text("utf-8")
        assert "are in `onnx/model.onnx_data`" in card
        assert 'additional_files=["onnx/model.onnx_data"]' in card


@pytest.mark.parametrize("opens", [True, False])
def test_numbers_beside_the_graph_are_compared_while_it_opens(
    make: Callable[..., list[Artifact]], monkeypatch: pytest.MonkeyPatch, opens: bool
) -> None:
    """Whatever the engine makes of damaged ones; unchecked, they give other vectors."""
    artifact = make()[0]
    assert artifact.number_files == {"onnx/model.onnx_data"}
    with load(artifact.path) as encoder:
        before = encoder.encode(["a text"])
    file = artifact.path / "onnx" / "model.onnx_data"
    content = bytearray(file.read_bytes())
    content[1::2] = bytes(value ^ 4 for value in content[1::2])
    file.write_bytes(content)
    if opens:
        with load(artifact.path, check=False) as encoder:
            assert not np.array_equal(encoder.encode(["a text"]), before)
    else:

        def fail(*_: object) -> None:
            raise RuntimeError("not a tensor")

        monkeypatch.setattr(onnxruntime_engine, "open_engine", fail)
    with pytest.raises(ArtifactError, match=r"model\.onnx_data was altered"):
        load(artifact.path)


def test_names_of_transformers_js_have_their_dtype(make: Callable[..., list[Artifact]]) -> None:
    half, integers = make(transformers_js=True)
    assert told(half.path) == {"dtype": "fp16", "use_external_data_format": {"model_fp16.onnx": 1}}
    assert told(integers.path) == {"dtype": "q8", "use_external_data_format": {"model_quantized.onnx": 1}}


def test_a_single_file_opens_from_bytes(make: Callable[..., list[Artifact]]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    for artifact in make(single_file=True):
        assert [file.name for file in (artifact.path / "onnx").iterdir()] == ["model.onnx"]
        assert told(artifact.path) == {"dtype": "fp32"}
        assert "--single-file" in recipe_of(artifact).arguments
        assert "model.onnx_data" not in (artifact.path / "README.md").read_text("utf-8")
        onnxruntime.InferenceSession(artifact.model_path.read_bytes(), providers=["CPUExecutionProvider"])
        with load(artifact) as encoder:
            assert encoder.encode("a text").shape == (64,)


def test_weights_beside_it_cannot_be_opened_from_bytes(make: Callable[..., list[Artifact]]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    data = make()[0].model_path.read_bytes()
    with pytest.raises(Exception, match=r"model\.onnx_data"):
        onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])


def test_more_than_one_file_can_hold_is_refused(
    make: Callable[..., list[Artifact]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "EXTERNAL_DATA_FROM", 4096)
    with pytest.raises(TargetError, match="do not fit a single file"):
        make(single_file=True)
    assert not any(tmp_path.iterdir())


def test_a_target_without_a_graph_has_no_single_file(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="pytorch-fp32 has no ONNX graph"):
        build_all(open_checkpoint(checkpoint), ["pytorch-fp32"], tmp_path, BuildOptions(single_file=True))


def test_of_several_graphs_the_one_for_a_cpu_is_meant(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", CONFIG_KEY: {"dtype": "q4f16"}}))
    for name in ("model.onnx", "model.onnx_data", "model_fp16.onnx", "model_quantized.onnx"):
        (tmp_path / "onnx" / name).touch()
    describe_graphs(tmp_path)
    assert told(tmp_path) == {"dtype": "q8", "use_external_data_format": {"model.onnx": 1}}


def test_what_a_checkpoint_told_of_its_own_graphs_goes(checkpoint: Path, tmp_path: Path) -> None:
    from ringkas.export.layout import write_layout

    opened = open_checkpoint(checkpoint)
    opened.config[CONFIG_KEY] = {"dtype": "q8"}
    try:
        write_layout(opened, tmp_path)
    finally:
        del opened.config[CONFIG_KEY]
    assert CONFIG_KEY not in json.loads((tmp_path / "config.json").read_text("utf-8"))


def test_a_flat_folder_has_the_graph_beside_its_tokenizer(make: Callable[..., list[Artifact]]) -> None:
    """And an input that clients feed to every model: whatever is in it, the vectors stay the same."""
    onnxruntime = pytest.importorskip("onnxruntime")
    ids = np.array([[0, 5, 6, 2], [0, 7, 2, 1]], dtype=np.int64)
    feed = {"input_ids": ids, "attention_mask": (ids != 1).astype(np.int64)}
    for artifact in make(flat=True):
        assert artifact.model_path == artifact.path / "model.onnx"
        assert (artifact.path / "tokenizer.json").is_file()
        assert not (artifact.path / "onnx").exists()
        assert "--flat" in recipe_of(artifact).arguments
        assert '{ subfolder: "" }' in (artifact.path / "README.md").read_text("utf-8")
        session = onnxruntime.InferenceSession(artifact.model_path, providers=["CPUExecutionProvider"])
        assert [one.name for one in session.get_inputs()] == list(INPUTS)
        found = [
            session.run([SENTENCE_OUTPUT], feed | more)[0]
            for more in ({}, {"token_type_ids": np.zeros_like(ids)}, {"token_type_ids": ids})
        ]
        for other in found[1:]:
            np.testing.assert_array_equal(found[0], other)
        with load(artifact) as encoder:
            assert encoder.encode("a text").shape == (64,)


def test_other_graphs_refuse_token_type_ids(make: Callable[..., list[Artifact]]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    ids = np.array([[0, 5, 2]], dtype=np.int64)
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids}
    session = onnxruntime.InferenceSession(make()[0].model_path, providers=["CPUExecutionProvider"])
    with pytest.raises(Exception, match="token_type_ids"):
        session.run([SENTENCE_OUTPUT], feed)


@pytest.mark.parametrize(
    ("target", "more", "said"),
    [
        ("pytorch-fp32", {}, "pytorch-fp32 has no ONNX graph to put at the root"),
        ("onnx-fp32", {"transformers_js": True}, "name one graph in two ways"),
    ],
)
def test_what_cannot_be_flat_is_refused(
    target: str, more: dict[str, bool], said: str, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=said):
        build_all(open_checkpoint(checkpoint), [target], tmp_path, BuildOptions(flat=True, **more))
