"""A reference becomes its quantised twin: every linear layer and table replaced, ready to be traced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.family import Family, Handling
from ringkas.progress import QUIET, Progress
from ringkas.quantize import tables, workers
from ringkas.quantize.calibrate import Group, Inputs, collect, first_tokens, groups, token_ids
from ringkas.quantize.coding import VALUES, round_table
from ringkas.quantize.for_onnx import widen as mix
from ringkas.quantize.for_onnx.layers import (
    BlockTable,
    BlockTable8,
    CodeTable,
    FloatLinear,
    Outliers,
    QuantizedInput,
    QuantizedTable,
    RowLinear,
    StaticLinear,
)
from ringkas.quantize.for_onnx.schemes import LOWEST_OUTPUT, LOWEST_ROLE, OnnxScheme
from ringkas.quantize.rounding import BLOCK8, Rounded, round4, round8, round8_blocks
from ringkas.quantize.smooth import Affine, centred, plain, transformed
from ringkas.runtimes.reference import Reference, load_reference

# Of the moment of a table's errors. Less than this trusts the sample too far: multilingual-e5-small's centred
# cosines lose no less at a tenth of it.
_TABLE_DAMPING = 0.3
# A layer narrower than this has no outlier in float: most of it would be.
_CHANNELS_AN_OUTLIER = 32


@dataclass(frozen=True)
class Quantized:
    """The twin, its layers that are stored otherwise than computed, which are wider, and the calibration.

    `wide` names the 8-bit layers of a 4-bit scheme, `floating` those left in float. `weights` is how many
    parameters the encoder had.
    """

    reference: Reference
    packed: Mapping[str, Rounded]
    wide: tuple[str, ...]
    floating: tuple[str, ...]
    texts: int
    tokens: int
    weights: int


@dataclass(frozen=True)
class _Prepared:
    """One group with its input's affine map (None for plain rows) and statistics, each weight and bias.

    `outliers` are the channels that are multiplied in float: `inputs` and `weights` have zeros there, and
    `direct` has each layer's weights of them, (out, outliers).
    """

    group: Group
    handling: Handling
    affine: Affine | None
    inputs: Inputs
    weights: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]
    outliers: Tensor | None = None
    direct: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class _Layer:
    module: StaticLinear | RowLinear | FloatLinear
    rounded: Rounded


@dataclass(frozen=True)
class _Way:
    """All that the rounding of a layer depends on: where two schemes agree in it, it is rounded once."""

    name: str
    bits: int
    block: int
    smoothing: float
    outliers: int
    margin: float
    damping: float
    covariance_width: int | None
    handling: Handling


class Quantizer:
    """A checkpoint's reference, calibrated once, from which twins of several schemes are made.

    Args:
        checkpoint: whose weights are run in float32.
        rows: the token ids that ranges, rounding and sensitivities are taken from.
        covariance_width: of all the schemes that twins are to be made of; None where one sets no limit.
        progress: where each part of the work is announced.

    Raises:
        CheckpointError: the weights cannot be loaded.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        rows: Sequence[Sequence[int]],
        covariance_width: int | None = None,
        progress: Progress = QUIET,
    ) -> None:
        self._progress = progress
        self._calibrated_for: OnnxScheme | None = None
        self.reference = load_reference(checkpoint, attention="eager")
        self.reference.requires_grad_(False)
        self.rows = rows
        self._encoder = self.reference.encoder
        self._lowest = _lowest(checkpoint.family, self._encoder)
        self._groups = groups(self._encoder, checkpoint.family)
        with progress.stage(f"running {len(rows)} calibration texts"):
            self._inputs = collect(self.reference, self._groups, rows, covariance_width)
        self._weights = sum(parameter.numel() for parameter in self._encoder.parameters())
        self._made: dict[_Way, _Layer] = {}
        self._coded_tables: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    @classmethod
    def calibrated(cls, checkpoint: Checkpoint, scheme: OnnxScheme, progress: Progress = QUIET) -> Quantizer:
        """Calibrated on the checkpoint's calibration texts as `scheme` asks for; raises as the class does."""
        rows = token_ids(checkpoint, scheme.calibration_tokens)
        made = cls(checkpoint, rows, scheme.covariance_width, progress)
        made._calibrated_for = scheme
        return made

    def serves(self, scheme: OnnxScheme) -> bool:
        """Whether one that was calibrated for `scheme` would have the same statistics, to the last bit."""
        own = self._calibrated_for
        if own is None or own.calibration_tokens != scheme.calibration_tokens:
            return False
        widest = max(len(inputs.mean) for inputs in self._inputs.values())
        limits = {own.covariance_width or widest, scheme.covariance_width or widest}
        return len(limits) == 1 or min(limits) >= widest

    def forget_layers(self) -> None:
        """Lets go of what was rounded for earlier schemes."""
        self._made.clear()

    @property
    def layers(self) -> dict[str, int]:
        """The names of the linear layers, and how many weights each has."""
        return {
            name: cast(nn.Linear, self._encoder.get_submodule(name)).weight.numel()
            for group in self._groups
            for name in group.names
        }

    def check(self, scheme: OnnxScheme) -> None:
        """Whether every layer and table can be stored as `scheme` says.

        Raises:
            CheckpointError: one cannot, because of its width.
            TargetError: the scheme names a layer that is not there.
        """
        names = self.layers
        scheme.layers(scheme.wide, names, "wide")
        floating = scheme.layers(scheme.floating, names, "floating")
        blocks = {name for group in self._groups if _in_blocks(group, scheme) for name in group.names}
        for name, module in self._encoder.named_modules():
            if name in names and name not in floating:
                unit = BLOCK8 if name in blocks else max(2, scheme.block)
                _check_width(name, cast(nn.Linear, module).in_features, unit, scheme.target)
            elif isinstance(module, nn.Embedding) and tables.is_token_table(name):
                unit = scheme.table_block or VALUES.get(scheme.table_bits, 1)
                unit = BLOCK8 if self._has_table_in_blocks(scheme) else unit
                _check_width(name, module.embedding_dim, unit, scheme.target)

    def losses(self, scheme: OnnxScheme) -> dict[str, float]:
        """What the vectors lose by each layer alone, as the scheme rounds it with nothing widened."""
        rounded = self._round(scheme, frozenset(), frozenset())
        sample = first_tokens(self.rows, scheme.sensitivity_tokens)
        modules = {name: one.module for name, one in rounded.items()}
        with self._progress.stage(f"measuring what the vectors lose by each layer's {scheme.bits} bits"):
            return mix.losses(self.reference, modules, sample)

    @contextmanager
    def twin(self, scheme: OnnxScheme, *, last: bool = False) -> Iterator[Quantized]:
        """The reference as `scheme` quantises it; when the block ends it is the float one again.

        With `last` the float layers and the statistics are let go, which saves most of the memory: no other
        twin can be made.

        Raises:
            CheckpointError: a layer's width does not fit the scheme's blocks.
            TargetError: the scheme names a layer that is not there.
        """
        names = list(self.layers)
        floating = scheme.layers(scheme.floating, names, "floating")
        wide = scheme.layers(scheme.wide, names, "wide") - floating
        self.check(scheme)
        if scheme.bits_per_weight is not None:
            wide = self._widest(scheme, floating)
        rounded = self._round(scheme, wide, floating)
        if last:
            self._inputs, self._made = {}, {}
        replacements: dict[str, nn.Module] = {name: layer.module for name, layer in rounded.items()}
        replacements |= self._tables(scheme)
        packed = {name: layer.rounded for name, layer in rounded.items() if layer.rounded.is_packed}
        with _replaced(self._encoder, replacements, restore=not last):
            yield Quantized(
                self.reference, packed, tuple(sorted(wide)), tuple(sorted(floating)),
                len(self.rows), sum(map(len, self.rows)), self._weights,
            )  # fmt: skip

    def _round(self, scheme: OnnxScheme, wide: frozenset[str], floating: frozenset[str]) -> dict[str, _Layer]:
        """Every layer but those left in float; what an earlier scheme rounded alike is not rounded again."""
        ways = {group: self._ways(group, scheme, wide, floating) for group in self._groups}
        undone = [group for group, own in ways.items() if not self._made.keys() >= set(own.values())]
        if undone:
            with self._progress.steps("rounding the linear layers", len(undone)) as done:
                width = max(len(self._inputs[group].mean) for group in undone)
                rounded = workers.each(partial(self._round_group, ways=ways, scheme=scheme), undone, width)
                for made in rounded:
                    self._made.update(made)
                    done()
        return {name: self._made[way] for own in ways.values() for name, way in own.items()}

    def _ways(
        self, group: Group, scheme: OnnxScheme, wide: frozenset[str], floating: frozenset[str]
    ) -> dict[str, _Way]:
        """How `scheme` rounds each layer of a group that is not left in float."""
        made = {}
        for name in group.names:
            if name not in floating:
                bits = 8 if name in wide else scheme.bits
                made[name] = _Way(
                    name, bits, scheme.block if bits == 4 else 0, scheme.smoothing,
                    scheme.outliers_of(group.role), scheme.margin, scheme.damping, scheme.covariance_width,
                    scheme.handling(group.role),
                )  # fmt: skip
        return made

    def _round_group(
        self, group: Group, ways: Mapping[Group, Mapping[str, _Way]], scheme: OnnxScheme
    ) -> dict[_Way, _Layer]:
        own = ways[group]
        missing = {name: way.bits for name, way in own.items() if way not in self._made}
        prepared = _prepare(self._encoder, group, self._inputs[group], scheme)
        layers = _layers(prepared, missing, scheme, self._lowest)
        return {own[name]: layer for name, layer in layers.items()}

    def _tables(self, scheme: OnnxScheme) -> dict[str, nn.Module]:
        found: dict[str, nn.Module] = {}
        for name, module in self._encoder.named_modules():
            if not isinstance(module, nn.Embedding) or tables.stays_float(module):
                continue
            table = tables.rows_of(module)
            bits = scheme.table_bits if tables.is_token_table(name) else 8
            if tables.is_token_table(name) and self._has_table_in_blocks(scheme):
                found[name] = BlockTable8(round8_blocks(table))
            elif bits == 4:
                found[name] = BlockTable(*tables.round_blocks(table, scheme.table_block))
            elif bits < 4:
                found[name] = CodeTable(*self._coded(name, table, scheme))
            else:
                columns = tables.column_factors(table)
                divided = table if columns is None else table / columns
                found[name] = QuantizedTable(*tables.round_rows(divided), columns)
        return found

    def _has_table_in_blocks(self, scheme: OnnxScheme) -> bool:
        """Whether the scheme's 8-bit token table has a scale for each block: where no input is an integer."""
        return scheme.table_bits == 8 and all(_in_blocks(group, scheme) for group in self._groups)

    def _coded(self, name: str, table: Tensor, scheme: OnnxScheme) -> tuple[Tensor, Tensor]:
        """Codes and entries of the token table; what an earlier scheme rounded alike is not rounded again."""
        way = (scheme.table_bits, scheme.sensitivity_tokens)
        if way not in self._coded_tables:
            rows = first_tokens(self.rows, scheme.sensitivity_tokens)
            with self._progress.stage("rounding the token table"):
                moment = mix.table_moment(self.reference, name, rows)
                self._coded_tables[way] = round_table(
                    table, moment, _TABLE_DAMPING, VALUES[scheme.table_bits]
                )
        return self._coded_tables[way]

    def _widest(self, scheme: OnnxScheme, floating: frozenset[str]) -> frozenset[str]:
        rounded = self._round(scheme, frozenset(), floating)
        losses = self.losses(scheme)
        candidates = [
            mix.Candidate(name, losses[name], *one.rounded.integers.shape) for name, one in rounded.items()
        ]
        return mix.widest(candidates, scheme, mix.room(self._encoder, rounded, scheme))


def _in_blocks(group: Group, scheme: OnnxScheme) -> bool:
    return scheme.handling(group.role) is Handling.FLOAT


def _check_width(name: str, width: int, unit: int, target: str) -> None:
    if width % unit:
        raise CheckpointError(
            f"{target} cannot store {name}, which is {width} wide",
            why=f"its weights are stored in blocks of {unit}",
            fix="Choose onnx-int8" if width % 2 == 0 and target != "onnx-int8" else "Choose onnx-fp16",
        )


@contextmanager
def _replaced(encoder: nn.Module, replacements: Mapping[str, nn.Module], *, restore: bool) -> Iterator[None]:
    originals = {name: encoder.get_submodule(name) for name in replacements} if restore else {}
    try:
        for name, module in replacements.items():
            encoder.set_submodule(name, module)
        yield
    finally:
        for name, module in originals.items():
            encoder.set_submodule(name, module)


def _prepare(encoder: nn.Module, group: Group, inputs: Inputs, scheme: OnnxScheme) -> _Prepared:
    layers = {name: cast(nn.Linear, encoder.get_submodule(name)) for name in group.names}
    weights = {name: layer.weight.detach() for name, layer in layers.items()}
    biases = {
        name: torch.zeros(len(weights[name])) if layer.bias is None else layer.bias.detach()
        for name, layer in layers.items()
    }
    inputs = inputs.within(scheme.covariance_width)
    handling = scheme.handling(group.role)
    affine = None
    if handling is Handling.STATIC:
        affine = plain(inputs, scheme.margin)
    elif handling in (Handling.CENTRED, Handling.CENTRED_ROW):
        widest = torch.stack([weight.abs().amax(0) for weight in weights.values()]).amax(0)
        affine = centred(inputs, widest, scheme.smoothing, scheme.margin)
    if affine is not None:
        # W x + b = (W / factor) ((x - shift) * factor) + (b + W shift)
        inputs = transformed(inputs, affine)
        biases = {name: biases[name] + weights[name] @ affine.shift for name in weights}
        weights = {name: weight / affine.factor for name, weight in weights.items()}
    prepared = _Prepared(group, handling, affine, inputs, weights, biases)
    return _without_outliers(prepared, scheme.outliers_of(group.role))


def _without_outliers(prepared: _Prepared, most: int) -> _Prepared:
    """As `prepared`, with up to so many of the channels of the longest reach taken out."""
    inputs = prepared.inputs
    count = min(most, len(inputs.mean) // _CHANNELS_AN_OUTLIER)
    if not count:
        return prepared
    chosen = torch.maximum(inputs.low.abs(), inputs.high.abs()).topk(count).indices.sort().values
    return replace(
        prepared,
        inputs=inputs.without(chosen),
        weights={name: weight.index_fill(1, chosen, 0.0) for name, weight in prepared.weights.items()},
        outliers=chosen,
        direct={name: weight[:, chosen] for name, weight in prepared.weights.items()},
    )


def _layers(
    prepared: _Prepared, bits: Mapping[str, int], scheme: OnnxScheme, lowest: float | None
) -> dict[str, _Layer]:
    """The layers that `bits` names; those of equal bits are rounded as one, since they share their input."""
    made = {}
    for own in sorted(set(bits.values())):
        names = [name for name in bits if bits[name] == own]
        weight = torch.cat([prepared.weights[name] for name in names])
        moment = prepared.inputs.covariance
        if prepared.handling is Handling.FLOAT:
            rounded = round8_blocks(weight)
        elif own == 8:
            rounded = round8(weight, moment, scheme.damping)
        else:
            rounded = round4(weight, moment, scheme.damping, scheme.block)
        parts = rounded.split([len(prepared.weights[name]) for name in names])
        made.update(
            {name: _layer(prepared, name, part, lowest) for name, part in zip(names, parts, strict=True)}
        )
    return made


def _layer(prepared: _Prepared, name: str, rounded: Rounded, lowest: float | None) -> _Layer:
    if prepared.handling is Handling.FLOAT:
        # Of a delicate model the mean input is that of its first token, which stands far off: no other token
        # gains by what would be given back of it.
        return _Layer(FloatLinear(rounded, prepared.biases[name]), rounded)
    # What rounding takes from the mean output, the bias gives back.
    bias = prepared.biases[name] + (prepared.weights[name] - rounded.weights()) @ prepared.inputs.mean
    if prepared.affine is not None and not prepared.handling.by_row:
        return _Layer(StaticLinear(rounded, bias, QuantizedInput(prepared.affine)), rounded)
    # Channels that were moved have another least value each.
    known = lowest if prepared.group.role.name == LOWEST_ROLE and prepared.affine is None else None
    outliers = None
    if prepared.outliers is not None:
        outliers = Outliers(prepared.outliers, len(prepared.inputs.mean), prepared.direct[name])
    return _Layer(RowLinear(rounded, bias, known, prepared.affine, outliers), rounded)


def _lowest(family: Family, encoder: nn.Module) -> float | None:
    if family.gated:  # what it multiplies with has no least value
        return None
    # transformers' own configuration, which has the default where config.json states none
    activation = getattr(encoder.config, family.config_names.get("hidden_act", "hidden_act"), "")
    return LOWEST_OUTPUT.get(str(activation))
