"""The builder's traps: each is shown on TensorRT-RTX itself, and that ours keep clear of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringkas import RingkasError, open_checkpoint
from ringkas.export.to_tensorrt.plan import (
    GENERATIONS,
    PlanJob,
    PlanOptions,
    build_plan,
    check_gpu,
    check_options,
    describe,
    parse,
)
from ringkas.progress import QUIET, Progress
from ringkas.quantize.for_tensorrt.schemes import TENSORRT_SCHEMES
from ringkas.runtimes.engines.cuda_device import Gpu
from ringkas.runtimes.engines.tensorrt_library import LIBRARIES, get_log, load_library
from ringkas.runtimes.engines.tensorrt_profiles import Profile, Shape

pytest.importorskip("tensorrt_rtx_bindings", reason="no TensorRT-RTX builder: make install-all")
onnx = pytest.importorskip("onnx")

ENGINE = "tensorrt-rtx"
PROFILES = (Profile(Shape(4, 32), Shape(2, 16)),)
HEAD = '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]> '
INPUTS = "int32[batch, sequence] input_ids, int32[batch, sequence] attention_mask"
SIGNATURE = f"g ({INPUTS}) => (float[batch, sequence, 8] y)"
TABLES = "<int8[16, 8] table, float[16] scale>"

DEQUANTIZE_FIRST = f"""{HEAD} {SIGNATURE} {TABLES} {{
    wide = DequantizeLinear<axis = 0>(table, scale)
    rows = Gather(wide, input_ids)
    mask = Cast<to = 1>(attention_mask)
    axis = Constant<value_ints = [2]>()
    column = Unsqueeze(mask, axis)
    y = Mul(rows, column)
}}"""
GATHER_FIRST = f"""{HEAD} {SIGNATURE} {TABLES} {{
    rows = Gather(table, input_ids)
    wide = Cast<to = 1>(rows)
    mask = Cast<to = 1>(attention_mask)
    axis = Constant<value_ints = [2]>()
    column = Unsqueeze(mask, axis)
    y = Mul(wide, column)
}}"""
FOREIGN = DEQUANTIZE_FIRST.replace("y = Mul(rows, column)", "y = com.microsoft.FastGelu(rows)")


def write(folder: Path, text: str) -> Path:
    """The graph of a text, its table filled with ones."""
    import onnx.parser
    from onnx import numpy_helper

    model = onnx.parser.parse_model(text.replace(TABLES, ""))
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.ones((16, 8), dtype=np.int8), "table"),
            numpy_helper.from_array(np.full(16, 0.5, dtype=np.float32), "scale"),
        ]
    )
    file = folder / "graph.onnx"
    onnx.save(model, file)
    return file


def job(graph: Path, **options: Any) -> PlanJob:
    return PlanJob(graph, ENGINE, PROFILES, PlanOptions(**options), graph.with_suffix(".plan"))


def network_of(graph: Path) -> Any:
    trt = load_library(ENGINE, building=True)
    builder = trt.Builder(get_log(trt))
    return parse(trt, builder, graph, LIBRARIES[ENGINE])


def test_gather_of_int8_parses_but_does_not_build(tmp_path: Path) -> None:
    graph = write(tmp_path, GATHER_FIRST)
    assert describe(network_of(graph))["layers"] > 0
    with pytest.raises(RingkasError, match=r"TensorRT-RTX .* cannot build"):
        build_plan(job(graph), QUIET)
    assert not graph.with_suffix(".plan").exists()


def test_dequantize_then_gather_builds(tmp_path: Path) -> None:
    graph = write(tmp_path, DEQUANTIZE_FIRST)
    record = build_plan(job(graph), QUIET)
    assert record.operators["DEQUANTIZE"] == 1
    assert graph.with_suffix(".plan").stat().st_size > 0


def test_two_builds_are_the_same_bytes(tmp_path: Path) -> None:
    graph = write(tmp_path, DEQUANTIZE_FIRST)
    plans = []
    for _ in range(2):
        build_plan(job(graph, gpus=("ada",)), QUIET)
        plans.append(graph.with_suffix(".plan").read_bytes())
    assert plans[0] == plans[1]


def test_a_foreign_operator_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(RingkasError, match=r"cannot parse .*FastGelu") as caught:
        build_plan(job(write(tmp_path, FOREIGN)), QUIET)
    assert "\n" not in str(caught.value)


def test_a_damaged_graph_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "graph.onnx").write_bytes(b"not a graph")
    with pytest.raises(RingkasError, match="cannot parse") as caught:
        build_plan(job(tmp_path / "graph.onnx"), QUIET)
    assert "\n" not in str(caught.value)


def test_the_builder_tells_its_progress_on_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    build_plan(job(write(tmp_path, DEQUANTIZE_FIRST), workspace_mb=64), Progress())
    out, err = capfd.readouterr()
    assert out == ""
    assert "steps" in err


def test_fp8_needs_a_generation_that_has_it(tensorrt_artifacts: Path, tmp_path: Path) -> None:
    """TensorRT finds out while it builds; ringkas says so before any work."""
    scheme = TENSORRT_SCHEMES["fp8"]
    for name in ("turing", "a100", "ampere"):
        with pytest.raises(RingkasError, match=rf"{name} has no fp8.*takes compute capability 8.9"):
            check_options(ENGINE, scheme, PlanOptions(gpus=(name,)))
    check_options(ENGINE, scheme, PlanOptions(gpus=("ada",)))
    with pytest.raises(RingkasError, match="A100 has no fp8"):
        check_gpu(scheme, Gpu("A100", "8.0"))
    check_gpu(scheme, Gpu("H200", "9.0"))
    graph = tensorrt_artifacts / "tensorrt-rtx-fp8" / "onnx" / "model.onnx"
    plan = tmp_path / "model.plan"
    with pytest.raises(RingkasError, match="fp8"):
        build_plan(PlanJob(graph, ENGINE, PROFILES, PlanOptions(gpus=("ampere",)), plan), QUIET)
    build_plan(PlanJob(graph, ENGINE, PROFILES, PlanOptions(gpus=("ada",)), plan), QUIET)
    assert plan.is_file()


def test_bf16_needs_ampere() -> None:
    with pytest.raises(RingkasError, match="turing has no bf16"):
        check_options(ENGINE, TENSORRT_SCHEMES["bf16"], PlanOptions(gpus=("turing",)))


def test_hopper_is_refused_before_any_work_where_the_library_lacks_it() -> None:
    trt = load_library(ENGINE, building=True)
    if hasattr(trt.ComputeCapability, "SM90"):
        pytest.skip("this TensorRT-RTX builds for Hopper")
    with pytest.raises(RingkasError, match=r"does not build for hopper.*no 9.0.*Choose a tensorrt target"):
        check_options(ENGINE, TENSORRT_SCHEMES["fp16"], PlanOptions(gpus=("hopper",)))
    check_options(ENGINE, TENSORRT_SCHEMES["fp16"], PlanOptions(gpus=("hopper",), defer=True))


@pytest.mark.parametrize(
    ("engine", "options", "message"),
    [
        ("tensorrt", {"gpus": ("ada",)}, "--gpu is of no use to TensorRT:"),
        (ENGINE, {"timing_cache": Path("cache")}, "--timing-cache is of no use to TensorRT-RTX:"),
        (ENGINE, {"version_compatible": True}, "--version-compatible is of no use"),
        (ENGINE, {"hardware_compatible": True}, "--hardware-compatible is of no use"),
        (
            "tensorrt",
            {"timing_cache": Path("missing/cache")},
            "cannot be written: there is no folder missing",
        ),
        (ENGINE, {"gpus": ("pascal",)}, "no GPU generation 'pascal'. Choose from: turing"),
    ],
)
def test_what_a_library_cannot_do_is_refused(engine: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RingkasError, match=message):
        check_options(engine, TENSORRT_SCHEMES["fp16"], PlanOptions(**options))


def test_generations_are_the_library_s_own() -> None:
    trt = load_library(ENGINE, building=True)
    known = {f"SM{major}{minor}" for major, minor in GENERATIONS.values()}
    assert known - {"SM90"} <= set(dir(trt.ComputeCapability))


def test_the_profile_trap_is_real(tensorrt_artifacts: Path, tmp_path: Path) -> None:
    """TensorRT builds a profile past the position table without a word, so that ringkas has to look."""
    graph = tensorrt_artifacts / "tensorrt-rtx-fp16" / "onnx" / "model.onnx"
    beyond = (Profile(Shape(1, 600), Shape(1, 32)),)
    build_plan(PlanJob(graph, ENGINE, beyond, PlanOptions(), tmp_path / "model.plan"), QUIET)
    from ringkas.export.to_tensorrt.rebuild import rebuild

    with pytest.raises(RingkasError, match=r"beyond the position table.*512"):
        rebuild(
            tensorrt_artifacts / "tensorrt-rtx-fp16", "tensorrt-rtx-fp16", tmp_path / "out",
            PlanOptions(profiles=("1x600",)),
        )  # fmt: skip


def test_attention_is_not_split(
    shapes: dict[str, Callable[..., Any]],
    make_checkpoint: Callable[..., Path],
    tiny_unigram: dict[str, Any],
    tmp_path: Path,
) -> None:
    """The sabotaged twin is the form and opset that split it: about twice the layers for each."""
    import torch

    from ringkas.export.to_onnx import graph as onnx_graph
    from ringkas.export.to_tensorrt import graph as tensorrt_graph
    from ringkas.runtimes.reference import load_reference

    shape = shapes["bert"](tiny_unigram)
    checkpoint = open_checkpoint(make_checkpoint(tmp_path / "checkpoint", shape))
    layers, inputs = {}, {}
    for form, opset in ((tensorrt_graph.ATTENTION, tensorrt_graph.OPSET), ("sdpa", 18)):
        reference = load_reference(checkpoint, dtype=torch.float16, attention=form)
        folder = tmp_path / form
        onnx_graph.save(onnx_graph.trace(checkpoint, reference, opset), folder)
        facts = describe(network_of(folder / onnx_graph.MODEL_FILE))
        layers[form], inputs[form] = facts["layers"], facts["inputs"]
    assert layers["sdpa"] > 1.5 * layers[tensorrt_graph.ATTENTION]
    # What `take_int32` is for: these have not been through it.
    assert inputs["sdpa"]["input_ids"].startswith("INT64")
