"""Twins of one reference: what a scheme names is what becomes integers, and nothing stays changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as with_
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from msgspec.structs import replace
from torch import nn

from ringkas import open_checkpoint
from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError, TargetError
from ringkas.families import FAMILIES
from ringkas.family import ROLE_NAMES, Handling
from ringkas.quantize.calibrate import first_tokens, token_ids
from ringkas.quantize.for_onnx.layers import QuantizedTable, RowLinear, StaticLinear
from ringkas.quantize.for_onnx.schemes import LOWEST_OUTPUT, SCHEMES, OnnxScheme
from ringkas.quantize.for_onnx.twin import Quantizer, _lowest

INT8, INT4 = SCHEMES["onnx-int8"], replace(SCHEMES["onnx-int4"], bits_per_weight=None)
FIRST = "encoder.layer.0"


@pytest.fixture(scope="module")
def checkpoint(
    shapes: Any, tiny_unigram: dict[str, Any], make_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    shape = shapes["bert"](
        tiny_unigram, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128
    )
    folder: Path = make_checkpoint(tmp_path_factory.mktemp("twin") / "model", with_(shape, max_length=64))
    return open_checkpoint(folder)


@pytest.fixture(scope="module")
def quantizer(checkpoint: Checkpoint) -> Quantizer:
    return Quantizer(checkpoint, token_ids(checkpoint, 600))


def vectors(quantizer: Quantizer) -> torch.Tensor:
    rows = [torch.tensor([list(row)]) for row in quantizer.rows[:8]]
    with torch.inference_mode():
        return torch.cat([quantizer.reference(row, torch.ones_like(row))[1] for row in rows])


def loss(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((1 - torch.cosine_similarity(found, exact, dim=1)).mean())


def modules(quantizer: Quantizer, names: Sequence[str]) -> set[type[nn.Module]]:
    return {type(quantizer.reference.encoder.get_submodule(name)) for name in names}


def test_a_twin_is_undone(quantizer: Quantizer) -> None:
    exact = vectors(quantizer)
    with quantizer.twin(INT8) as twin:
        assert twin.reference is quantizer.reference
        assert not torch.equal(vectors(quantizer), exact)
    assert torch.equal(vectors(quantizer), exact)
    assert modules(quantizer, list(quantizer.layers)) == {nn.Linear}


def test_a_twin_is_undone_after_an_error(quantizer: Quantizer) -> None:
    exact = vectors(quantizer)
    with pytest.raises(ZeroDivisionError), quantizer.twin(INT8):
        raise ZeroDivisionError
    assert torch.equal(vectors(quantizer), exact)


def test_four_bits_lose_more_than_eight(quantizer: Quantizer) -> None:
    exact = vectors(quantizer)
    lost = []
    for scheme in (INT4, INT8):
        with quantizer.twin(scheme):
            lost.append(loss(vectors(quantizer), exact))
    assert lost[0] > 2 * lost[1] > 0


def test_named_layers_stay_float(quantizer: Quantizer) -> None:
    with quantizer.twin(replace(INT8, floating=(f"{FIRST}.*",))) as twin:
        assert len(twin.floating) == 6
        assert modules(quantizer, twin.floating) == {nn.Linear}
        others = [name for name in quantizer.layers if name not in twin.floating]
        assert modules(quantizer, others) == {StaticLinear, RowLinear}


def test_named_layers_get_eight_bits(quantizer: Quantizer) -> None:
    with quantizer.twin(replace(INT4, wide=("*.query", f"{FIRST}.output.dense"))) as twin:
        assert len(twin.wide) == 3
        assert not set(twin.wide) & set(twin.packed)
        assert len(twin.packed) == 12 - 3


def test_a_budget_spends_itself(quantizer: Quantizer) -> None:
    spent = []
    for budget in (5.0, 6.0, 7.5):
        with quantizer.twin(replace(INT4, bits_per_weight=budget)) as twin:
            spent.append(len(twin.wide))
    assert spent == sorted(spent)
    assert spent[0] < spent[-1]


@pytest.mark.parametrize("handling", list(Handling))
@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_role_takes_every_handling(quantizer: Quantizer, role: str, handling: Handling) -> None:
    exact = vectors(quantizer)
    with quantizer.twin(replace(INT8, activations={role: handling})):
        assert loss(vectors(quantizer), exact) < 0.002


def test_least_values_are_of_gelu_and_unmoved(quantizer: Quantizer) -> None:
    def lowest(scheme: OnnxScheme) -> list[float | None]:
        with quantizer.twin(scheme):
            names = (f"{FIRST}.attention.output.dense", f"{FIRST}.output.dense")
            layers = [quantizer.reference.encoder.get_submodule(name) for name in names]
            return [cast(RowLinear, layer).lowest for layer in layers]

    assert lowest(INT8) == [None, LOWEST_OUTPUT["gelu"]]
    moved = replace(INT8, activations={"feed-forward output": Handling.CENTRED_ROW})
    assert lowest(moved) == [None, None]


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.gated])
def test_the_least_value_of_an_activation_is_known(name: str) -> None:
    """Whatever the family calls its activation; by transformers' default where config.json states none."""
    from transformers import AutoConfig

    encoder = nn.Module()
    encoder.config = AutoConfig.for_model(name)
    assert _lowest(FAMILIES[name], encoder) == LOWEST_OUTPUT["gelu"]


@pytest.mark.parametrize("handling", [Handling.ROW, Handling.CENTRED_ROW])
def test_a_channel_that_stands_out_is_multiplied_in_float(checkpoint: Checkpoint, handling: Handling) -> None:
    """A channel of GELU's output that is forty times the others' on every token, and means as little."""
    name, width = f"{FIRST}.output.dense", 128
    quantizer = Quantizer(checkpoint, token_ids(checkpoint, 2048))
    group = next(group for group in quantizer._groups if name in group.names)
    before, layer = quantizer._inputs[group], quantizer.reference.encoder.get_submodule(name)
    loud = torch.ones(width).index_fill(0, torch.tensor([3]), 40 * float(before.high.max() / before.high[3]))
    quantizer._inputs[group] = with_(
        before, low=before.low * loud, high=before.high * loud, mean=before.mean * loud,
        covariance=before.covariance * torch.outer(loud, loud),
    )  # fmt: skip
    assert isinstance(layer, nn.Linear)
    layer.weight /= loud
    values = before.mean + (before.high - before.mean) * torch.rand(50, width)
    expected, errors = layer(values * loud), []
    for count in (1, 0):
        with quantizer.twin(replace(INT8, outliers=count, activations={group.role.name: handling})):
            found = quantizer.reference.encoder.get_submodule(name)(values * loud)
        errors.append(float((found - expected).norm() / expected.norm()))
    assert errors[0] < 0.02
    assert handling is Handling.CENTRED_ROW or errors[0] < 0.2 * errors[1]  # which scales a channel anyway


def test_a_wide_input_is_rounded_to_nearest(checkpoint: Checkpoint, quantizer: Quantizer) -> None:
    scheme = replace(INT8, covariance_width=100)
    narrow, wide = f"{FIRST}.intermediate.dense", f"{FIRST}.output.dense"

    def integers(source: Quantizer, scheme: OnnxScheme) -> list[torch.Tensor]:
        with source.twin(scheme):
            layers = [source.reference.encoder.get_submodule(name) for name in (narrow, wide)]
            return [cast(torch.Tensor, layer.weight) for layer in layers]

    by_covariance, to_nearest = integers(quantizer, INT8), integers(quantizer, scheme)
    assert torch.equal(by_covariance[0], to_nearest[0])
    assert not torch.equal(by_covariance[1], to_nearest[1])
    # What it never needed need not be gathered.
    less = Quantizer(checkpoint, quantizer.rows, covariance_width=100)
    assert all(map(torch.equal, integers(less, scheme), to_nearest))


def test_a_layer_is_rounded_once_for_schemes_that_agree(quantizer: Quantizer) -> None:
    name = f"{FIRST}.intermediate.dense"
    with quantizer.twin(replace(INT8, floating=("*.query",))):
        first = quantizer.reference.encoder.get_submodule(name)
    with quantizer.twin(INT8):
        assert quantizer.reference.encoder.get_submodule(name) is first
    with quantizer.twin(replace(INT8, damping=0.7)):
        assert quantizer.reference.encoder.get_submodule(name) is not first


def test_an_unknown_layer_is_refused(quantizer: Quantizer) -> None:
    with pytest.raises(TargetError, match=r"`wide` names 'encoder\.layer\.9"), \
            quantizer.twin(replace(INT4, wide=("encoder.layer.9.*",))):  # fmt: skip
        pass


def test_a_table_that_does_not_fit_its_blocks_is_refused(quantizer: Quantizer) -> None:
    with pytest.raises(CheckpointError, match="word_embeddings, which is 64 wide"), \
            quantizer.twin(replace(INT4, table_block=128)):  # fmt: skip
        pass


def test_the_last_twin_lets_go_of_the_float_layers(checkpoint: Checkpoint) -> None:
    few = replace(INT8, calibration_tokens=200)
    with Quantizer.calibrated(checkpoint, few).twin(few, last=True) as twin:
        kept = {type(module) for module in twin.reference.encoder.modules()}
    assert not {nn.Linear, nn.Embedding} & kept
    assert QuantizedTable in kept


def test_first_tokens_takes_one_at_least() -> None:
    rows = [[1] * 10, [2] * 5, [3] * 5]
    assert first_tokens(rows, 15) == rows[:2]
    assert first_tokens(rows, 3) == rows[:1]
    assert first_tokens([], 3) == []
