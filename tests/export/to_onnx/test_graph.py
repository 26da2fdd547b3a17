"""The graph of every family against the reference, on real vocabularies and real text in 12 languages."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import onnx
import pytest

from ringkas import build_all, load, load_reference_encoder, open_checkpoint
from ringkas.export.to_onnx import graph as onnx_graph
from ringkas.runtimes.parity.judge import cosine

FLOORS = {"onnx-fp32": 0.99999, "onnx-fp16": 0.9995}
# Sentences of a language: a sample by default, all of them by `make verify-full`.
IN_CI = 6


@pytest.fixture(scope="module")
def families(
    real_shapes: Any, ko_en: str, make_checkpoint: Any, tmp_path_factory: Any
) -> Callable[..., tuple[Path, Path]]:
    """Of a family's name and overrides of its shape, with random weights: (checkpoint, its artifacts)."""

    def make(name: str, changes: dict[str, Any]) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("family")
        path = make_checkpoint(folder / ko_en, real_shapes[name](**changes))
        built = build_all(open_checkpoint(path), list(FLOORS), folder / "dist")
        assert all(one.report.passed for one in built)
        return path, folder / "dist"

    return make


@pytest.mark.parametrize(
    ("name", "count"),
    [
        pytest.param("e5-small shape", IN_CI, id="e5-small vocabulary"),
        pytest.param("XLM-R-base shape", IN_CI, id="XLM-R vocabulary"),
        pytest.param("e5-small shape", None, marks=pytest.mark.full),
        pytest.param("XLM-R-base shape", None, marks=pytest.mark.full),
        pytest.param("small ModernBERT", None, marks=pytest.mark.full),
    ],
)
def test_twelve_languages_hold(
    name: str, count: int | None, families: Any, narrow: Any, lines_of: Any, sib200_languages: Any
) -> None:
    path, dist = families(name, narrow if count else {})
    sample = [line for language in sib200_languages for line in lines_of(language)[:count]]
    reference = load_reference_encoder(path).encode(sample)
    for target, floor in FLOORS.items():
        with load(dist / target) as encoder:
            assert cosine(reference, encoder.encode(sample)).min() >= floor, target


@pytest.mark.parametrize("count", [200, pytest.param(None, marks=pytest.mark.full)])
def test_real_weights_hold(count: int | None, demo_artifacts: Path, lines_of: Any) -> None:
    reference = load_reference_encoder("demo").encode(lines_of("en")[:count])
    for target, floor in FLOORS.items():
        with load(demo_artifacts / target) as encoder:
            assert cosine(reference, encoder.encode(lines_of("en")[:count])).min() >= floor, target


def test_two_traces_at_once_leave_the_process_alone(
    small_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    before = sys.stdout, sys.stderr
    checkpoints = [open_checkpoint(small_checkpoint(width)) for width in (16, 32)]
    folders = [tmp_path / str(checkpoint.spec.dimension) for checkpoint in checkpoints]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(onnx_graph.write_graph, checkpoints, ("fp32", "fp32"), folders))
    assert (sys.stdout, sys.stderr) == before
    everything = ("ignore", None, Warning, None, 0)  # imports add filters, but not this one
    assert everything not in warnings.filters
    for folder in folders:
        written = onnx.load(folder / onnx_graph.MODEL_FILE).graph.output
        assert [value.type.tensor_type.shape.dim[-1].dim_value for value in written] == [int(folder.name)] * 2


@pytest.fixture(scope="module")
def graph(demo_artifacts: Path) -> onnx.ModelProto:
    return onnx.load(demo_artifacts / "onnx-fp16" / "onnx" / "model.onnx")


def test_inputs_and_outputs_are_the_ones_that_tools_expect(graph: onnx.ModelProto) -> None:
    integer, real = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT

    def described(values: Any) -> list[tuple[str, int, list[Any]]]:
        return [
            (
                value.name,
                value.type.tensor_type.elem_type,
                [one.dim_param or one.dim_value for one in value.type.tensor_type.shape.dim],
            )
            for value in values
        ]

    assert described(graph.graph.input) == [
        ("input_ids", integer, ["batch", "sequence"]),
        ("attention_mask", integer, ["batch", "sequence"]),
    ]
    assert described(graph.graph.output) == [
        ("last_hidden_state", real, ["batch", "sequence", 384]),
        ("sentence_embedding", real, ["batch", 384]),
    ]


def test_only_standard_operators(graph: onnx.ModelProto) -> None:
    assert {node.domain for node in graph.graph.node} == {""}
    assert {(one.domain, one.version) for one in graph.opset_import} == {("", 20)}


def test_nothing_of_the_machine_is_in_the_graph(graph: onnx.ModelProto) -> None:
    graph = onnx.ModelProto.FromString(graph.SerializeToString())
    for tensor in graph.graph.initializer:
        tensor.ClearField("raw_data")
    text = str(graph)
    assert str(Path.home()) not in text
    assert ".py" not in text


def test_weights_past_the_limit_go_into_one_file_beside_the_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_graph, "EXTERNAL_DATA_FROM", 1 << 20)
    built = build_all(open_checkpoint("demo"), ["onnx-fp32"], tmp_path)[0]
    assert built.report.passed
    assert {path.name for path in (built.artifact.path / "onnx").iterdir()} == {
        "model.onnx",
        "model.onnx_data",
    }
    assert (built.artifact.path / "onnx" / "model.onnx").stat().st_size < 2**20


@pytest.mark.full
def test_xlmr_large_shape_exports_within_12_gb(
    shapes: Any, xlmr_tokenizer: Any, make_checkpoint: Any, tmp_path: Path
) -> None:
    shape = shapes["xlm-roberta"](
        xlmr_tokenizer, num_hidden_layers=24, hidden_size=1024, num_attention_heads=16, intermediate_size=4096
    )
    path = make_checkpoint(tmp_path / "large", shape)
    script = (
        "import re, sys; from ringkas import build_all, open_checkpoint\n"
        "built = build_all(open_checkpoint(sys.argv[1]), ['onnx-fp32'], sys.argv[2])[0]\n"
        "assert built.report.passed, built.report.failures\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, path, tmp_path / "dist"], capture_output=True, text=True, check=True
    )
    peak = int(done.stdout) * 1024
    print(f"peak memory {peak / 1e9:.1f} GB")
    assert peak < 12e9


def test_a_large_table_lies_beside_the_graph(
    shapes: Any, tiny_unigram: Any, make_checkpoint: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_checkpoint(
        tmp_path / "model", shapes["bert"](tiny_unigram, hidden_size=64, num_attention_heads=2)
    )
    monkeypatch.setattr(onnx_graph, "MAPPED_FROM", 64 * 2000 * 4)
    (built,) = build_all(open_checkpoint(path), ["onnx-fp32"], tmp_path / "dist")
    assert built.report.passed
    files = {
        name: built.artifact.manifest.files[f"onnx/{name}"] for name in ("model.onnx", "model.onnx_data")
    }
    table = next(
        one
        for one in onnx.load(built.artifact.model_path, load_external_data=False).graph.initializer
        if one.data_location == onnx.TensorProto.EXTERNAL
    )
    assert files["model.onnx_data"].size >= 4 * table.dims[0] * table.dims[1]
    assert table.dims[0] > 2000
