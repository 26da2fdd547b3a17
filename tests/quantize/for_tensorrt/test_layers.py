"""Q/DQ layers: the simulation is what ONNX defines, and LayerNorm stays finite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ringkas.quantize.for_tensorrt.layers import (
    QdqInput,
    QdqLinear,
    WideLayerNorm,
    dequantize,
    quantize,
    round_to,
)
from ringkas.quantize.for_tensorrt.schemes import FP8, INT8, TENSORRT_SCHEMES, Levels, tensorrt_scheme
from ringkas.quantize.for_tensorrt.twin import _round, _rounded_table


@pytest.mark.parametrize("levels", [INT8, FP8], ids=lambda levels: levels.name)
def test_simulation_is_onnx_s_own(levels: Levels) -> None:
    """Against ONNX's reference implementation, past both ends of the range and at ties."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    scale = 0.25
    values = np.concatenate([np.linspace(-130, 130, 1041), [0.125, 0.375, -0.125]]).astype(np.float32)
    kind = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}[levels.name]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("s", TensorProto.FLOAT, [], [scale]), helper.make_tensor("z", kind, [], [0])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    onnx.checker.check_model(model)
    expected = ReferenceEvaluator(model).run(None, {"x": values})[0]
    step = torch.tensor(scale)
    ours = dequantize(quantize(torch.from_numpy(values), step, levels), step).numpy()
    np.testing.assert_array_equal(ours, expected)
    assert np.abs(ours).max() <= -levels.lowest * scale


def test_a_linear_layer_is_its_original_but_for_the_rounding() -> None:
    torch.manual_seed(3)
    original, values = nn.Linear(32, 16).requires_grad_(False), torch.randn(64, 32) * 2 + 1
    shift, factor = torch.full((32,), 1.0), torch.rand(32) + 0.5
    weight = original.weight.detach() / factor
    scale = weight.abs().amax(1) / INT8.largest
    reach = ((values - shift) * factor).abs().max() / INT8.largest
    given = QdqInput(shift, factor, reach, INT8)
    bias = original.bias.detach() + original.weight.detach() @ shift
    layer = QdqLinear(round_to(weight / scale[:, None], INT8), scale, bias, given)
    expected = original(values)
    assert float((layer(values) - expected).norm() / expected.norm()) < 0.02
    # Sabotaged: a bias that does not give the shift back.
    layer.bias = original.bias.detach()
    assert float((layer(values) - expected).norm() / expected.norm()) > 0.2


def test_layer_norm_in_float32_survives_what_overflows_float16() -> None:
    norm = nn.LayerNorm(64).requires_grad_(False).half()
    values = (torch.randn(2, 64) * 20000).half()
    wide = WideLayerNorm(norm)(values)
    assert wide.dtype == torch.float16
    assert torch.isfinite(wide).all()
    exact = nn.functional.layer_norm(values.double(), (64,), eps=norm.eps)
    assert float((wide.double() - exact).abs().max()) < 5e-3
    # What the squares do in 16 bits.
    assert not torch.isfinite((values * values).mean()).item()


@pytest.mark.parametrize("precision", list(TENSORRT_SCHEMES))
def test_every_scheme_is_found_by_both_targets(precision: str) -> None:
    for engine in ("tensorrt", "tensorrt-rtx"):
        assert tensorrt_scheme(f"{engine}-{precision}").precision == precision


@pytest.mark.parametrize("levels", [INT8, FP8], ids=lambda levels: levels.name)
def test_what_lies_outside_is_clipped(levels: Levels) -> None:
    ends = torch.tensor([-1e9, 1e9])
    assert round_to(ends, levels).float().tolist() == [levels.lowest, levels.largest]


def test_a_channel_fainter_than_the_least_scale_keeps_its_size() -> None:
    weight = torch.randn(6, 64, generator=torch.Generator().manual_seed(4))
    weight[1] *= 1e-6
    weight[2] *= 3e-4
    integers, scale = _round(weight, torch.eye(64), INT8, damping=0.1)
    errors = (integers.float() * scale[:, None] - weight).abs().amax(1)
    assert (errors <= torch.maximum(scale, weight.abs().amax(1) / 64)).all()
    assert float(scale.min()) >= 2.0**-14


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rows_of_zeros_and_faint_ones_have_scales_that_are_stored(dtype: torch.dtype) -> None:
    """TensorRT refuses a scale of zero, as float16 would make of both; a padding's row is one of zeros."""
    table = torch.randn(3, 64) * torch.tensor([[0.0], [1e-4], [0.02]])
    made = _rounded_table(table, dtype)
    assert (made.scale > 0).all()
    values = made(torch.arange(3)).float()
    assert torch.equal(values[0], torch.zeros(64))
    errors = (values - table).norm(dim=1)[1:] / table.norm(dim=1)[1:]
    assert (errors < torch.tensor([0.25, 0.012])).all(), errors
