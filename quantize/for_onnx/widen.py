"""Which layers get 8 bits: those that the vectors feel most, as many as the budget of bits allows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ringkas.quantize.codebooks import ENTRIES
from ringkas.quantize.coding import VALUES
from ringkas.quantize.for_onnx.schemes import OnnxScheme
from ringkas.quantize.tables import is_token_table, stays_float
from ringkas.runtimes.batching import batches
from ringkas.runtimes.reference import Reference
from ringkas.tokens import pad

# A scale and a bias in float32 for each output channel.
_CHANNEL_BITS = 64
_MULTIPLIER_BITS = 8
_FLOAT_BITS, _HALF_BITS = 32, 16
# Random directions that a sensitivity is the mean over, beside the texts: it is right to about a tenth.
_DIRECTIONS = 6
_SEED = 20
_BATCH_TOKENS = 512  # of one pass, whose every activation is kept for the gradients


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
    """One minus the mean cosine with the reference when one layer alone is replaced, for each of `layers`.

    To first order, and for all layers in one pass: a layer's replacement changes its output by d, and d the
    vector by J d, of which the part across the vector, c, costs a cosine of c.c / 2. For a random u the
    gradient of u.v gives u.J d of every layer at once, and the mean of its square over u is c.c.
    """
    generator = torch.Generator().manual_seed(_SEED)
    totals = dict.fromkeys(layers, 0.0)
    for positions in batches([len(row) for row in rows], _BATCH_TOKENS):
        # Any id pads: what it gives is masked.
        batch = pad([rows[position] for position in positions], pad_id=0)
        changes = _Changes(layers)
        with changes.watched(reference.encoder), torch.enable_grad():
            vectors = reference(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask))[1]
        for number in range(_DIRECTIONS):
            across = _across(vectors.detach(), generator)
            squares = changes.squares((vectors * across).sum(), retain=number < _DIRECTIONS - 1)
            for name, square in squares.items():
                totals[name] += float(square) / (2 * _DIRECTIONS * len(rows))
    return totals


def table_moment(reference: Reference, table: str, rows: Sequence[Sequence[int]]) -> Tensor:
    """What an error e in what `table` gives for one token costs the vectors: the M of e' M e, (width, width).

    By the gradients that `losses` goes by, of the tokens of `rows`. Errors of two tokens are taken to have
    nothing to do with each other.
    """
    generator = torch.Generator().manual_seed(_SEED)
    total, tokens = torch.zeros(()), 0
    for positions in batches([len(row) for row in rows], _BATCH_TOKENS):
        # Any id pads: what it gives is masked, so no gradient reaches it.
        batch = pad([rows[position] for position in positions], pad_id=0)
        place = _Place()
        handle = reference.encoder.get_submodule(table).register_forward_hook(place)
        try:
            with torch.enable_grad():
                vectors = reference(
                    torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
                )[1]
        finally:
            handle.remove()
        for number in range(_DIRECTIONS):
            product = (vectors * _across(vectors.detach(), generator)).sum()
            (gradient,) = torch.autograd.grad(product, [place.added], retain_graph=number < _DIRECTIONS - 1)
            gradient = gradient.flatten(0, 1)
            total = total + gradient.T @ gradient
        tokens += int(batch.attention_mask.sum())
    return total / (_DIRECTIONS * tokens)


class _Place:
    """A hook that adds nothing to a module's output, but is there for a gradient to reach."""

    added: Tensor

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        self.added = torch.zeros_like(output, requires_grad=True)
        moved: Tensor = output + self.added
        return moved


class _Changes:
    """What each layer's replacement does to its output on one batch, and where a gradient reaches it."""

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        self._layers = layers
        self._places: dict[str, Tensor] = {}
        self._changes: dict[str, Tensor] = {}

    @contextmanager
    def watched(self, encoder: nn.Module) -> Iterator[None]:
        """While the block lasts, a run of `encoder` is what is measured."""
        handles = [
            encoder.get_submodule(name).register_forward_hook(self._hook(name)) for name in self._layers
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def squares(self, product: Tensor, *, retain: bool) -> dict[str, Tensor]:
        """By layer, the sum over texts of the squared change of their share of `product`, to first order."""
        gradients = torch.autograd.grad(product, list(self._places.values()), retain_graph=retain)
        return {
            name: (gradient * self._changes[name]).flatten(1).sum(1).square().sum()
            for name, gradient in zip(self._places, gradients, strict=True)
        }

    def _hook(self, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
        def watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            with torch.no_grad():
                self._changes[name] = self._layers[name](inputs[0].detach()) - output
            self._places[name] = torch.zeros_like(output, requires_grad=True)
            moved: Tensor = output + self._places[name]
            return moved

        return watch


def _across(vectors: Tensor, generator: torch.Generator) -> Tensor:
    """Random directions, each across its vector and divided by that one's length: (texts, dimension)."""
    length = vectors.norm(dim=1, keepdim=True).clamp(min=1e-12)
    along = vectors / length
    drawn = torch.randn(vectors.shape, generator=generator)
    across: Tensor = (drawn - (drawn * along).sum(1, keepdim=True) * along) / length
    return across


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
    if not isinstance(module, nn.Embedding) or stays_float(module):
        return _FLOAT_BITS
    if is_token_table(name) and scheme.table_bits == 4:
        return 4 + 16 / scheme.table_block
    if is_token_table(name) and scheme.table_bits < 4:
        return 8 / VALUES[scheme.table_bits] + _HALF_BITS * ENTRIES / module.num_embeddings
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
