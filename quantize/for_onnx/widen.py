"""Which layers get 8 bits: those that the vectors feel most, as many as the budget of bits allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ringkas.quantize.for_onnx.schemes import OnnxScheme
from ringkas.quantize.tables import is_token_table
from ringkas.runtimes.reference import Reference

# A scale and a bias in float32 for each output channel.
_CHANNEL_BITS = 64
_MULTIPLIER_BITS = 8
_FLOAT_BITS = 32


@dataclass(frozen=True)
class Candidate:
    """A layer that may be widened: how much the vectors lose by its 4 bits alone, and its shape."""

    name: str
    loss: float
    outputs: int
    inputs: int

    def bits(self, scheme: OnnxScheme, wide: bool) -> int:
        weights = self.outputs * self.inputs
        if wide or scheme.bits == 8:
            return 8 * weights + _CHANNEL_BITS * self.outputs
        return 4 * weights + _MULTIPLIER_BITS * weights // scheme.block + _CHANNEL_BITS * self.outputs


def losses(
    reference: Reference, layers: Mapping[str, nn.Module], rows: Sequence[Sequence[int]]
) -> dict[str, float]:
    """One minus the mean cosine with the reference when one layer alone is replaced, for each of `layers`."""
    exact = _vectors(reference, rows)
    found = {}
    for name, layer in layers.items():
        original = reference.encoder.get_submodule(name)
        reference.encoder.set_submodule(name, layer)
        try:
            vectors = _vectors(reference, rows)
        finally:
            reference.encoder.set_submodule(name, original)
        found[name] = float((1 - torch.cosine_similarity(exact, vectors, dim=1)).mean())
    return found


def _vectors(reference: Reference, rows: Iterable[Sequence[int]]) -> Tensor:
    with torch.inference_mode():
        ids = [torch.tensor([row], dtype=torch.int64) for row in rows]
        return torch.cat([reference(row, torch.ones_like(row))[1] for row in ids]).double()


def room(encoder: nn.Module, linear: Iterable[str], scheme: OnnxScheme) -> float:
    """How many bits the layers named `linear` may take, once everything else in the encoder has its own."""
    assert scheme.bits_per_weight is not None
    names = set(linear)
    total = sum(parameter.numel() for parameter in encoder.parameters())
    others = 0.0
    for name, module in encoder.named_modules():
        if name in names:
            continue
        for parameter in module.parameters(recurse=False):
            others += parameter.numel() * _other_bits(module, name, scheme)
    return scheme.bits_per_weight * total - others


def _other_bits(module: nn.Module, name: str, scheme: OnnxScheme) -> float:
    if not isinstance(module, nn.Embedding):
        return _FLOAT_BITS
    if scheme.table_bits == 4 and is_token_table(name):
        return 4 + 16 / scheme.table_block
    return 8 + _FLOAT_BITS / module.embedding_dim


def widest(candidates: Sequence[Candidate], scheme: OnnxScheme, available: float) -> frozenset[str]:
    """The names to keep at 8 bits; `available` is how many bits the linear layers may take in all."""
    available -= sum(one.bits(scheme, wide=False) for one in candidates)
    chosen = []
    # The most loss saved for each bit spent comes first; names part ties, so that every run agrees.
    for one in sorted(candidates, key=lambda one: (-one.loss / (one.outputs * one.inputs), one.name)):
        cost = one.bits(scheme, wide=True) - one.bits(scheme, wide=False)
        if cost <= available:
            chosen.append(one.name)
            available -= cost
    return frozenset(chosen)
