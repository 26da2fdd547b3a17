"""A reference becomes its quantised twin: every linear layer and table replaced, ready to be traced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.quantize import mix, tables
from ringkas.quantize.calibrate import Group, Inputs, collect, groups, token_ids
from ringkas.quantize.linear import BlockTable, QuantizedInput, QuantizedTable, RowLinear, StaticLinear
from ringkas.quantize.rounding import Rounded, round4, round8
from ringkas.quantize.schemes import GATED, LOWEST_OUTPUT, Handling, OnnxScheme
from ringkas.quantize.smooth import Affine, centred, plain, transformed
from ringkas.runtimes.reference import Reference, load_reference

_ACTIVATION_KEYS = ("hidden_act", "hidden_activation")


@dataclass(frozen=True)
class Quantized:
    """The twin, its 4-bit layers by name, the names of those kept at 8 bits, and what it was calibrated on.

    `weights` is how many parameters the encoder had.
    """

    reference: Reference
    packed: Mapping[str, Rounded]
    wider: tuple[str, ...]
    texts: int
    tokens: int
    weights: int


@dataclass(frozen=True)
class _Prepared:
    """One group with its input's affine map (None for rows) and statistics, each layer's weight and bias."""

    group: Group
    affine: Affine | None
    inputs: Inputs
    weights: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Layer:
    module: StaticLinear | RowLinear
    rounded: Rounded


def quantize(checkpoint: Checkpoint, scheme: OnnxScheme) -> Quantized:
    """Calibrates, rounds and replaces; runs the checkpoint's weights in float32.

    Raises:
        CheckpointError: the weights cannot be loaded, or a layer's width does not fit the scheme's blocks.
    """
    reference = load_reference(checkpoint, attention="eager")
    reference.requires_grad_(False)
    encoder = reference.encoder
    weights = sum(parameter.numel() for parameter in encoder.parameters())
    found = groups(encoder, checkpoint.family.name)
    _check_widths(encoder, found, scheme)
    rows = token_ids(checkpoint, scheme.calibration_tokens)
    gathered = collect(reference, found, rows)
    lowest = _lowest(checkpoint)
    wider: frozenset[str] = frozenset()
    layers: dict[str, _Layer] = {}
    for group in found:
        # A second rounding needs the statistics again; otherwise they go as they are used.
        inputs = gathered.pop(group) if scheme.bits_per_weight is None else gathered[group]
        layers |= _layers(_prepare(encoder, group, inputs, scheme), scheme, lowest, wider)
    if scheme.bits_per_weight is not None:
        wider = _choose_wider(reference, layers, rows, scheme)
        for group in (group for group in found if wider.intersection(group.names)):
            layers |= _layers(_prepare(encoder, group, gathered[group], scheme), scheme, lowest, wider)
    for name, layer in layers.items():
        encoder.set_submodule(name, layer.module)
    _replace_tables(encoder, scheme)
    packed = {name: layer.rounded for name, layer in layers.items() if layer.rounded.levels is not None}
    return Quantized(reference, packed, tuple(sorted(wider)), len(rows), sum(map(len, rows)), weights)


def _check_widths(encoder: nn.Module, found: list[Group], scheme: OnnxScheme) -> None:
    unit = max(2, scheme.block)
    for name in (name for group in found for name in group.names):
        inputs = cast(nn.Linear, encoder.get_submodule(name)).in_features
        if inputs % unit:
            raise CheckpointError(
                f"{scheme.name} cannot store {name}, which has {inputs} inputs",
                why=f"its weights are stored in blocks of {unit}",
                fix="Choose onnx-int8" if inputs % 2 == 0 else "Choose onnx-fp16",
            )


def _choose_wider(
    reference: Reference, layers: Mapping[str, _Layer], rows: list[list[int]], scheme: OnnxScheme
) -> frozenset[str]:
    sample, tokens = [], 0
    for row in rows:
        sample.append(row)
        tokens += len(row)
        if tokens >= scheme.sensitivity_tokens:
            break
    losses = mix.losses(reference, {name: layer.module for name, layer in layers.items()}, sample)
    candidates = [
        mix.Candidate(name, losses[name], *layer.rounded.integers.shape) for name, layer in layers.items()
    ]
    return mix.widest(candidates, scheme, mix.room(reference.encoder, layers, scheme))


def _prepare(encoder: nn.Module, group: Group, inputs: Inputs, scheme: OnnxScheme) -> _Prepared:
    layers = {name: cast(nn.Linear, encoder.get_submodule(name)) for name in group.names}
    weights = {name: layer.weight.detach() for name, layer in layers.items()}
    biases = {
        name: torch.zeros(len(weights[name])) if layer.bias is None else layer.bias.detach()
        for name, layer in layers.items()
    }
    if group.role.handling is Handling.ROW:
        return _Prepared(group, None, inputs, weights, biases)
    if group.role.handling is Handling.STATIC:
        affine = plain(inputs, scheme.margin)
    else:
        widest = torch.stack([weight.abs().amax(0) for weight in weights.values()]).amax(0)
        affine = centred(inputs, widest, scheme.smoothing, scheme.margin)
    # W x + b = (W / factor) ((x - shift) * factor) + (b + W shift)
    return _Prepared(
        group,
        affine,
        transformed(inputs, affine),
        {name: weight / affine.factor for name, weight in weights.items()},
        {name: biases[name] + weights[name] @ affine.shift for name in weights},
    )


def _layers(
    prepared: _Prepared, scheme: OnnxScheme, lowest: float | None, wider: frozenset[str]
) -> dict[str, _Layer]:
    shared = None if prepared.affine is None else QuantizedInput(prepared.affine)
    made = {}
    for name, weight in prepared.weights.items():
        if scheme.bits == 8 or name in wider:
            rounded = round8(weight, prepared.inputs.covariance, scheme.damping)
        else:
            rounded = round4(weight, prepared.inputs.covariance, scheme.damping, scheme.block)
        # What rounding takes from the mean output, the bias gives back.
        bias = prepared.biases[name] + (weight - rounded.weights()) @ prepared.inputs.mean
        made[name] = _Layer(
            RowLinear(rounded, bias, lowest) if shared is None else StaticLinear(rounded, bias, shared),
            rounded,
        )
    return made


def _lowest(checkpoint: Checkpoint) -> float | None:
    if checkpoint.family.name in GATED:
        return None
    activation = next((checkpoint.config[key] for key in _ACTIVATION_KEYS if key in checkpoint.config), "")
    return LOWEST_OUTPUT.get(activation)


def _replace_tables(encoder: nn.Module, scheme: OnnxScheme) -> None:
    for name, module in list(encoder.named_modules()):
        if not isinstance(module, nn.Embedding):
            continue
        table = module.weight.detach()
        if scheme.table_bits == 4 and mix.is_token_table(name):
            encoder.set_submodule(name, BlockTable(*tables.round_blocks(table, scheme.table_block)))
        else:
            encoder.set_submodule(name, QuantizedTable(*tables.round_rows(table)))
