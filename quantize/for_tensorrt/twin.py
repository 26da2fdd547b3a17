"""A reference becomes its TensorRT twin: types as the graph shall have them, linear layers between Q/DQ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ringkas.checkpoint import Checkpoint
from ringkas.quantize import workers
from ringkas.quantize.calibrate import Group, Inputs, collect, groups, token_ids
from ringkas.quantize.for_tensorrt.layers import QdqInput, QdqLinear, QdqTable, WideLayerNorm, round_to
from ringkas.quantize.for_tensorrt.schemes import Levels, Range, TensorRTScheme
from ringkas.quantize.rounding import round8
from ringkas.quantize.smooth import Affine, centred, transformed
from ringkas.quantize.tables import is_token_table, round_rows, rows_of
from ringkas.runtimes.reference import Reference, load_reference

# The smallest scale: of a channel of zeros, and what float16 still holds as a normal number.
_LEAST_SCALE = 2.0**-14


@dataclass(frozen=True)
class Typed:
    """The twin, what is recorded of its scales (one for each input that is quantised, by the names of the
    layers that share it), and how many texts and tokens they were taken from."""

    reference: Reference
    input_scales: Mapping[str, float]
    table_bits: int
    texts: int
    tokens: int


def typed(checkpoint: Checkpoint, scheme: TensorRTScheme, attention: str) -> Typed:
    """The reference of `checkpoint` with the types of `scheme`.

    Args:
        checkpoint: what to convert.
        scheme: types and ranges.
        attention: transformers' name of the form that is traced.

    Raises:
        CheckpointError: the weights cannot be loaded.
    """
    dtype = getattr(torch, scheme.dtype)
    layers, rows = _calibrated(checkpoint, scheme, dtype) if scheme.levels else ({}, [])
    reference = load_reference(checkpoint, dtype=dtype, attention=attention)
    reference.requires_grad_(False)
    encoder = reference.encoder
    for name, layer in layers.items():
        encoder.set_submodule(name, layer)
    table_bits = _quantise_table(encoder, scheme) if scheme.levels else 16
    for name, module in list(encoder.named_modules()):
        if isinstance(module, nn.LayerNorm):
            encoder.set_submodule(name, WideLayerNorm(module))
    scales: dict[str, float] = {}
    shared: dict[int, str] = {}
    for name, layer in layers.items():
        first = shared.setdefault(id(layer.given), name)
        scales[first] = float(layer.given.scale)
    return Typed(reference, scales, table_bits, len(rows), sum(map(len, rows)))


def _calibrated(
    checkpoint: Checkpoint, scheme: TensorRTScheme, dtype: torch.dtype
) -> tuple[dict[str, QdqLinear], Sequence[Sequence[int]]]:
    """The quantised layers by name, and the texts that set their ranges; runs the weights in float32."""
    reference = load_reference(checkpoint)
    reference.requires_grad_(False)
    found = groups(reference.encoder, checkpoint.family)
    wanted = [group for group in found if group.role.name in scheme.ranges]
    rows = token_ids(checkpoint, scheme.calibration_tokens)
    gathered = collect(reference, wanted, rows)

    def rounded(group: Group) -> dict[str, QdqLinear]:
        return _layers(reference.encoder, group, gathered.pop(group), scheme, dtype)

    width = max(len(inputs.mean) for inputs in gathered.values())
    layers: dict[str, QdqLinear] = {}
    for made in workers.each(rounded, wanted, width):
        layers |= made
    return layers, rows


def _layers(
    encoder: nn.Module, group: Group, inputs: Inputs, scheme: TensorRTScheme, dtype: torch.dtype
) -> dict[str, QdqLinear]:
    assert scheme.levels is not None
    originals = {name: cast(nn.Linear, encoder.get_submodule(name)) for name in group.names}
    affine = _affine(inputs, originals, scheme, scheme.ranges[group.role.name])
    given = QdqInput(
        affine.shift.to(dtype), affine.factor.to(dtype), torch.tensor(affine.scale).to(dtype), scheme.levels
    )
    # As stored, so that what the weights make up for is what the graph does.
    shift, factor = given.shift.float(), given.factor.float()
    seen = transformed(inputs, Affine(shift, factor, affine.scale, 0))
    made = {}
    for name, layer in originals.items():
        # W x + b = (W / factor) ((x - shift) * factor) + (b + W shift)
        weight = layer.weight.detach() / factor
        bias = torch.zeros(len(weight)) if layer.bias is None else layer.bias.detach()
        bias = bias + layer.weight.detach() @ shift
        stored, scale = _round(weight, seen.covariance, scheme.levels, scheme.damping)
        scale = scale.to(dtype)
        # What rounding takes from the mean output, the bias gives back.
        bias = bias + (weight - stored.float() * scale.float()[:, None]) @ seen.mean
        made[name] = QdqLinear(stored, scale, bias.to(dtype), given)
    return made


def _affine(inputs: Inputs, layers: Mapping[str, nn.Linear], scheme: TensorRTScheme, kind: Range) -> Affine:
    assert scheme.levels is not None
    shift, factor = torch.zeros_like(inputs.low), torch.ones_like(inputs.low)
    if kind is Range.CENTRED:
        widest = torch.stack([layer.weight.detach().abs().amax(0) for layer in layers.values()]).amax(0)
        found = centred(inputs, widest, scheme.smoothing, scheme.margin)
        shift, factor = found.shift, found.factor
    reach = torch.maximum(((inputs.low - shift) * factor).abs(), ((inputs.high - shift) * factor).abs())
    scale = float(reach.max()) * scheme.margin / scheme.levels.largest
    return Affine(shift, factor, max(scale, _LEAST_SCALE), 0)


def _round(weight: Tensor, covariance: Tensor, levels: Levels, damping: float) -> tuple[Tensor, Tensor]:
    """8-bit values (out, in) and the scale of each output channel."""
    if levels.integer:
        rounded = round8(weight, covariance, damping)
        # A channel too faint for its own scale gets the least one, and integers that are as much smaller.
        faint = rounded.scale < _LEAST_SCALE
        by_least = round_to(weight / _LEAST_SCALE, levels)
        integers = torch.where(faint[:, None], by_least, rounded.integers)
        return integers, rounded.scale.clamp(min=_LEAST_SCALE)
    scale = (weight.abs().amax(1) / levels.largest).clamp(min=_LEAST_SCALE)
    return round_to(weight / scale[:, None], levels), scale


def _quantise_table(encoder: nn.Module, scheme: TensorRTScheme) -> int:
    """Stores the token table in int8 where it pays; the bits it has then."""
    name, table = next(
        (name, module)
        for name, module in encoder.named_modules()
        if isinstance(module, nn.Embedding) and is_token_table(name)
    )
    total = sum(value.numel() for value in encoder.state_dict().values())
    if table.weight.numel() < scheme.table_share * total:
        return 16
    encoder.set_submodule(name, _rounded_table(rows_of(table).float(), table.weight.dtype))
    return 8


def _rounded_table(table: Tensor, dtype: torch.dtype) -> QdqTable:
    """int8 rows with scales that `dtype` holds: TensorRT refuses the zero that a row of zeros would get."""
    integers, scale = round_rows(table)
    least = torch.finfo(dtype).tiny
    faint = scale[:, 0] < least
    integers[faint] = torch.round(table[faint] / least).to(torch.int8)
    return QdqTable(integers, scale[:, 0].clamp(min=least).to(dtype))
