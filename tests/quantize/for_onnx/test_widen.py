"""Sensitivities: what one pass estimates is what replacing one layer after the other shows."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace as with_
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import nn

from ringkas import open_checkpoint
from ringkas.quantize.calibrate import token_ids
from ringkas.quantize.for_onnx import widen
from ringkas.quantize.for_onnx.schemes import SCHEMES
from ringkas.quantize.for_onnx.twin import Quantizer
from ringkas.runtimes.reference import Reference


def replaced_one_by_one(
    reference: Reference, layers: dict[str, nn.Module], rows: list[Any]
) -> dict[str, float]:
    def vectors() -> torch.Tensor:
        with torch.inference_mode():
            ids = [torch.tensor([list(row)]) for row in rows]
            return torch.cat([reference(row, torch.ones_like(row))[1] for row in ids]).double()

    exact, found = vectors(), {}
    for name, layer in layers.items():
        original = reference.encoder.get_submodule(name)
        reference.encoder.set_submodule(name, layer)
        found[name] = float((1 - torch.cosine_similarity(exact, vectors(), dim=1)).mean())
        reference.encoder.set_submodule(name, original)
    return found


@pytest.fixture
def quantizer_of(
    shapes: Any, tiny_unigram: dict[str, Any], make_checkpoint: Any, tmp_path: Path
) -> Callable[[bool], Quantizer]:
    """Of a small random BERT that normalises its vectors, or does not."""

    def make(normalize: bool) -> Quantizer:
        shape = shapes["bert"](
            tiny_unigram, hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=128
        )
        make_checkpoint(tmp_path / "model", with_(shape, max_length=64, normalize=normalize))
        checkpoint = open_checkpoint(tmp_path / "model")
        return Quantizer(checkpoint, token_ids(checkpoint, 600))

    return make


@pytest.mark.parametrize("normalize", [True, False])
def test_one_pass_measures_what_replacing_each_layer_costs(
    normalize: bool, quantizer_of: Callable[[bool], Quantizer]
) -> None:
    quantizer = quantizer_of(normalize)
    rounded = quantizer._round(replace(SCHEMES["onnx-int4"], bits_per_weight=None), frozenset(), frozenset())
    layers: dict[str, nn.Module] = {name: one.module for name, one in rounded.items()}
    rows = list(quantizer.rows)
    exact = replaced_one_by_one(quantizer.reference, layers, rows)
    estimated = widen.losses(quantizer.reference, layers, rows)
    assert list(estimated) == list(exact)
    ratios = np.array([estimated[name] / exact[name] for name in exact])
    assert ratios.min() > 0.6
    assert ratios.max() < 1.7
    assert abs(np.median(ratios) - 1) < 0.2
    # A replacement that changes nothing costs nothing, and nothing is left behind in the encoder.
    same = {name: deepcopy(quantizer.reference.encoder.get_submodule(name)) for name in layers}
    assert max(widen.losses(quantizer.reference, same, rows).values()) == 0
    assert widen.losses(quantizer.reference, layers, rows) == estimated


@pytest.mark.parametrize("normalize", [True, False])
def test_the_moment_of_the_table_says_what_its_errors_cost(
    normalize: bool, quantizer_of: Callable[[bool], Quantizer]
) -> None:
    quantizer = quantizer_of(normalize)
    table, rows = "embeddings.word_embeddings", list(quantizer.rows)
    moment = widen.table_moment(quantizer.reference, table, rows)
    assert torch.equal(moment, widen.table_moment(quantizer.reference, table, rows))
    module = quantizer.reference.encoder.get_submodule(table)
    assert isinstance(module, nn.Embedding)
    _, directions = torch.linalg.eigh(moment)
    # Along what costs most, what costs least, and at random.
    dear, cheap = directions[:, -8:], directions[:, :8]
    generator = torch.Generator().manual_seed(1)
    ratios, costs = [], []
    for basis in (dear, cheap, torch.eye(64)):
        noise = 0.003 * torch.randn(len(module.weight), basis.shape[1], generator=generator) @ basis.T
        changed = nn.Embedding.from_pretrained(module.weight.detach() + noise, padding_idx=module.padding_idx)
        cost = replaced_one_by_one(quantizer.reference, {table: changed}, rows)[table]
        # Of a text's tokens each has an error of its own: their costs add up to half that of the text.
        tokens = sum(map(len, rows)) / len(rows)
        expected = tokens * float(((noise @ moment) * noise).sum(1).mean()) / 2
        ratios.append(expected / cost)
        costs.append(cost)
    assert costs[0] > 2 * costs[1]
    # What costs nearly nothing to first order costs what it does to second order: it has no such bound.
    for ratio in (ratios[0], ratios[2]):
        assert 0.5 < ratio < 2
