"""TensorRT artifacts of the demo checkpoint: real plans by TensorRT-RTX, the oracle's parity, true labels."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import ringkas
from ringkas import RingkasError, open_artifact, open_checkpoint
from ringkas.export.to_tensorrt.finish import find_gpu
from ringkas.export.to_tensorrt.graph import write_typed_graph
from ringkas.export.to_tensorrt.plan import PlanJob, PlanOptions, build_plan
from ringkas.progress import QUIET
from ringkas.runtimes.engines.tensorrt_profiles import default_profiles
from ringkas.runtimes.engines.tensorrt_record import DEFERRED, NOT_EXECUTED, read_record
from ringkas.runtimes.parity.judge import ParityReport

PRECISIONS = ("fp16", "bf16", "fp8", "int8")
# A checkpoint of this name is in two languages, which keeps the probe set small.
KO_EN = "dragonkue-koen-e5-tiny"
# What the demo checkpoint must reach on the probe set: cosine minimum, mean.
REQUIRED = {"fp16": (0.9995, 0.9999), "bf16": (0.999, 0.9995), "fp8": (0.99, 0.996), "int8": (0.995, 0.998)}
# The builder's network before fusion. A change is no error in itself: look at why, then write it down.
LAYERS = {"fp16": 516, "bf16": 516, "fp8": 662, "int8": 722}

E5_SMALL_LAYERS = 948

needs_no_gpu = pytest.mark.skipif(find_gpu("tensorrt") is not None, reason="is about machines without a GPU")


def report_of(folder: Path) -> ParityReport:
    return msgspec.json.decode((folder / "parity.json").read_bytes(), type=ParityReport)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_plan_is_built_and_says_what_was_not_executed(tensorrt_artifacts: Path, precision: str) -> None:
    artifact = open_artifact(tensorrt_artifacts / f"tensorrt-rtx-{precision}")
    artifact.check_files()
    assert artifact.manifest.model_file == "model.plan"
    record = read_record(artifact.manifest.scheme)
    assert record is not None
    assert record.layers == LAYERS[precision]
    assert record.inputs == {"input_ids": "INT32 -1x-1", "attention_mask": "INT32 -1x-1"}
    assert record.outputs == {"sentence_embedding": "FLOAT -1x384"}
    if find_gpu("tensorrt-rtx") is None:
        assert artifact.manifest.execution == NOT_EXECUTED == "built, not executed here"
        report = report_of(artifact.path)
        assert report.engine.startswith("oracle: ")
        assert report.engine.endswith("the plan itself was not executed")
        assert ("PyTorch" in report.engine) == (precision == "bf16")
        assert "built, not executed here" in (artifact.path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_parity_holds(tensorrt_artifacts: Path, precision: str) -> None:
    report = report_of(tensorrt_artifacts / f"tensorrt-rtx-{precision}")
    lowest, mean = REQUIRED[precision]
    assert report.passed
    assert report.cosine_min >= lowest
    assert report.cosine_mean >= mean
    # The floor is judged language by language, the demo's own requirement over all texts.
    assert report.floor.cosine_min <= lowest


def test_eight_bits_are_stored_as_eight_bits(tensorrt_artifacts: Path) -> None:
    """The plan too, not only the graph: nothing was folded back to 16 bits. Kernels are some 8 MB of each."""
    sizes = {
        name: (tensorrt_artifacts / f"tensorrt-rtx-{name}" / "model.plan").stat().st_size
        for name in PRECISIONS
    }
    assert sizes["fp8"] < 0.65 * sizes["fp16"]
    assert sizes["int8"] < 0.70 * sizes["fp16"]


@needs_no_gpu
def test_loading_where_no_gpu_is_says_so(tensorrt_artifacts: Path) -> None:
    pytest.importorskip("cuda.bindings")
    with pytest.raises(RingkasError, match=r"there is no GPU here.*cudaError.*ONNX or GGUF"):
        ringkas.load(tensorrt_artifacts / "tensorrt-rtx-fp16")


def test_a_failing_oracle_builds_no_plan(
    shapes: dict[str, Callable[..., Any]],
    make_checkpoint: Callable[..., Path],
    tiny_unigram: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sabotaged twin of the parity test: scales far too small, and the build ends marked as failed."""
    import torch

    from ringkas.export.build import BuildOptions, build_all
    from ringkas.quantize.for_tensorrt import twin as tensorrt_encoder

    def too_small(*arguments: Any) -> Any:
        found = affine(*arguments)
        return type(found)(found.shift, torch.ones_like(found.factor), found.scale / 30, 0)

    affine = tensorrt_encoder._affine
    pytest.importorskip("tensorrt_rtx_bindings", reason="no TensorRT-RTX builder: make install-all")
    monkeypatch.setattr(tensorrt_encoder, "_affine", too_small)
    checkpoint = make_checkpoint(tmp_path / KO_EN, shapes["bert"](tiny_unigram))
    built = build_all(open_checkpoint(checkpoint), ["tensorrt-rtx-fp8"], tmp_path, BuildOptions())[0]
    assert not built.report.passed
    assert built.artifact.manifest.execution == DEFERRED
    assert not (tmp_path / "tensorrt-rtx-fp8" / "model.plan").exists()
    with pytest.raises(RingkasError, match="failed its parity check"):
        ringkas.load(built.artifact.path)
    with pytest.raises(RingkasError, match="failed its parity check"):
        ringkas_rebuild(built.artifact.path, "tensorrt-rtx-fp8", tmp_path / "again")


# The graph


def graph_of(tensorrt_artifacts: Path, precision: str) -> Any:
    import onnx_ir

    return onnx_ir.load(tensorrt_artifacts / f"tensorrt-rtx-{precision}" / "onnx" / "model.onnx")


def test_bf16_graph_is_the_fp16_graph_in_other_types(tensorrt_artifacts: Path) -> None:
    """ONNX Runtime cannot run bf16, so what it judged in fp16 must be the same graph."""

    def outline(model: Any) -> list[Any]:
        return [
            (
                node.op_type,
                [
                    (value.name if value.producer() else None, str(value.shape))
                    if value is not None
                    else None
                    for value in node.inputs
                ],
                {key: attr.value for key, attr in node.attributes.items() if key != "to"},
            )
            for node in model.graph
        ]

    half, brain = graph_of(tensorrt_artifacts, "fp16"), graph_of(tensorrt_artifacts, "bf16")
    # LayerNorm, pooling and the mask's arithmetic aside, the number of 16-bit values agrees as well.
    kinds = [
        Counter(value.dtype.name for node in model.graph for value in node.outputs if value.dtype)
        for model in (half, brain)
    ]
    assert kinds[0]["FLOAT16"] == kinds[1]["BFLOAT16"] > 100
    assert kinds[0]["FLOAT"] == kinds[1]["FLOAT"]
    assert kinds[1]["FLOAT16"] == 0
    ours, theirs = outline(half), outline(brain)
    assert [row[0] for row in ours] == [row[0] for row in theirs]
    assert [row[2] for row in ours] == [row[2] for row in theirs]
    # Sabotaged: one node more.
    assert [row[0] for row in ours] != [row[0] for row in theirs[:-1]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_layer_norms_and_the_sums_before_them_are_float32(tensorrt_artifacts: Path, precision: str) -> None:
    assert narrow_norms(graph_of(tensorrt_artifacts, precision)) == 0


def narrow_norms(model: Any) -> int:
    """How many LayerNorms, or sums that feed one, are not in float32."""
    count = 0
    for node in model.graph:
        if node.op_type == "LayerNormalization":
            source = node.inputs[0]
            producer = source.producer()
            count += source.dtype.name != "FLOAT" or producer.op_type == "Cast"
            if producer.op_type == "Add":
                count += any(term.dtype.name != "FLOAT" for term in producer.inputs)
    return count


def test_without_the_pass_sums_are_narrow(tmp_path: Path) -> None:
    """The sabotaged twin, and why it matters: two halves of what float16 holds sum to infinity."""
    import onnx
    import onnx.parser
    import onnx_ir
    from onnx.reference import ReferenceEvaluator

    from ringkas.export.to_tensorrt.graph import add_in_float32

    text = """<ir_version: 9, opset_import: ["": 21]>
    g (float16[n, 4] a, float16[n, 4] b, float[4] scale) => (float[n, 4] y) {
        total = Add(a, b)
        wide = Cast<to = 1>(total)
        y = LayerNormalization<epsilon = 0.00001>(wide, scale)
    }"""
    proto = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text))
    big = np.array([[60000, 100, -60000, 0]], dtype=np.float16)
    feed = {"a": big, "b": big, "scale": np.ones(4, dtype=np.float32)}
    model = onnx_ir.from_proto(proto)
    assert narrow_norms(model) > 0
    with np.errstate(all="ignore"):
        assert not np.isfinite(ReferenceEvaluator(proto).run(None, feed)[0]).all()
    add_in_float32(model)
    assert narrow_norms(model) == 0
    mended = onnx_ir.to_proto(model)
    onnx.checker.check_model(mended)
    assert np.isfinite(ReferenceEvaluator(mended).run(None, feed)[0]).all()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_mask_holds_an_infinity(tensorrt_artifacts: Path, precision: str) -> None:
    for value in graph_of(tensorrt_artifacts, precision).graph.initializers.values():
        array = value.const_value.numpy()
        if array.dtype.kind == "f":
            assert np.isfinite(array).all(), value.name


# Deferring, and building again


def ringkas_rebuild(*arguments: Any, **options: Any) -> Any:
    from ringkas.export.to_tensorrt.rebuild import rebuild

    return rebuild(*arguments, **options)


@pytest.fixture(scope="module")
def deferred(tensorrt_artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tensorrt-fp16` of the demo checkpoint, made where TensorRT is not installed."""
    from ringkas.export.build import BuildOptions, build_all

    out = tmp_path_factory.mktemp("deferred")
    options = BuildOptions(plan=PlanOptions(defer=True))
    built = build_all(open_checkpoint("demo"), ["tensorrt-fp16"], out, options)[0]
    assert built.report.passed
    return built.artifact.path


def test_deferred_artifact_is_everything_but_the_plan(deferred: Path) -> None:
    artifact = open_artifact(deferred)
    assert artifact.manifest.execution == DEFERRED == "graph only, not built"
    assert artifact.manifest.model_file == "onnx/model.onnx"
    assert "parity/probe.npz" in artifact.manifest.files
    assert not any(name.endswith(".plan") for name in artifact.manifest.files)
    with pytest.raises(
        RingkasError, match=r"holds no plan yet. Run: ringkas rebuild .* --target tensorrt-fp16"
    ):
        ringkas.load(deferred)


def test_rebuild_needs_no_torch(deferred: Path, tmp_path: Path) -> None:
    """On a device: torch, transformers and onnx cannot even be imported there."""
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'onnx', 'onnx_ir', 'onnxscript', 'onnxruntime'):\n"
        "    sys.modules[name] = None\n"
        "from ringkas.cli import main\n"
        f"sys.argv = ['ringkas', 'rebuild', {str(deferred)!r}, '--target', 'tensorrt-rtx-fp16',"
        f" '--out', {str(tmp_path)!r}, '--profile', '4x64', '--gpu', 'ada', '--json']\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["parity"]["passed"] is True
    assert answer["parity"]["target"] == "tensorrt-rtx-fp16"
    again = open_artifact(tmp_path / "tensorrt-rtx-fp16")
    again.check_files()
    record = read_record(again.manifest.scheme)
    assert record is not None
    assert (record.profiles, record.capabilities) == (("4x64@4x64",), ("8.9",))
    assert again.manifest.target == "tensorrt-rtx-fp16"
    assert set(again.manifest.files) >= {"model.plan", "triton/all-MiniLM-L6-v2/1/model.plan"}
    assert "step" in done.stderr  # the builder's progress


def test_rebuild_refuses_another_precision(deferred: Path, tmp_path: Path) -> None:
    with pytest.raises(RingkasError, match=r"graph in fp16.*Rebuild it as tensorrt-rtx-fp16"):
        ringkas_rebuild(deferred, "tensorrt-rtx-int8", tmp_path)
    assert not any(tmp_path.iterdir())


def test_rebuild_refuses_what_carries_no_graph(demo_artifacts: Path, tmp_path: Path) -> None:
    with pytest.raises(RingkasError, match="only TensorRT artifacts carry the typed graph"):
        ringkas_rebuild(demo_artifacts / "onnx-fp16", "tensorrt-rtx-fp16", tmp_path)


def test_rebuild_refuses_an_altered_graph(deferred: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(deferred, tmp_path / "copy"))
    graph = bytearray((copy / "onnx" / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (copy / "onnx" / "model.onnx").write_bytes(graph)
    with pytest.raises(RingkasError, match="was altered"):
        ringkas_rebuild(copy, "tensorrt-rtx-fp16", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_library_one_line_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("tensorrt", "tensorrt_libs"):
        monkeypatch.setitem(sys.modules, name, None)
    from click.testing import CliRunner

    from ringkas.cli import cli

    done = CliRunner().invoke(cli, ["build", "demo", "--target", "tensorrt-fp16", "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert done.stderr.strip() == (
        "ringkas: TensorRT is not installed: this needs the extra [tensorrt]. "
        "Run: pip install 'ringkas[tensorrt]'."
    )
    assert not any(tmp_path.iterdir())


# Shapes of the real models, random weights


@pytest.mark.full
@pytest.mark.parametrize("family", ["xlm-roberta", "modernbert"])
def test_every_family_gets_a_plan(
    family: str,
    shapes: dict[str, Callable[..., Any]],
    make_checkpoint: Callable[..., Path],
    tiny_unigram: dict[str, Any],
    tmp_path: Path,
    tensorrt_artifacts: Path,
) -> None:
    shape = shapes[family](tiny_unigram)
    built = ringkas.build_all(
        open_checkpoint(make_checkpoint(tmp_path / KO_EN, shape)),
        ["tensorrt-rtx-fp16"],
        tmp_path / "out",
    )[0]
    assert built.report.passed, built.report.failures
    assert re.match("built", built.artifact.manifest.execution)


def test_e5_small_shape_builds(
    shapes: dict[str, Callable[..., Any]],
    make_checkpoint: Callable[..., Path],
    tiny_unigram: dict[str, Any],
    tmp_path: Path,
) -> None:
    """12 layers and 250,037 rows. (Parity of a BERT: the demo checkpoint.)"""
    pytest.importorskip("tensorrt_rtx_bindings", reason="no TensorRT-RTX builder: make install-all")
    shape = shapes["bert"](tiny_unigram, num_hidden_layers=12, vocab_size=250037)
    checkpoint = open_checkpoint(make_checkpoint(tmp_path / "checkpoint", shape))
    name, _ = write_typed_graph(checkpoint, "tensorrt-rtx-fp16", tmp_path)
    job = PlanJob(
        tmp_path / name, "tensorrt-rtx", default_profiles(512), PlanOptions(), tmp_path / "model.plan"
    )
    record = build_plan(job, QUIET)
    assert record.layers == E5_SMALL_LAYERS
    assert 2 * 117_000_000 < job.plan.stat().st_size < 2.2 * 118_000_000
