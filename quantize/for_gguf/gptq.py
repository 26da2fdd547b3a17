"""Linear layers rounded straight into ggml's blocks, with compensated errors.

Each weight is rounded to a level that the block format really has, and its error is repaid by the columns
that are still to come (quantize/gptq.py), by the inputs that the layer has on the calibration texts. What is
left of the mean error of each output is taken into the bias.

Moving the weights towards the unquantized outputs first (GPTAQ, arXiv 2504.02692) was tried: on this little
calibration text it fits the text, and held-out texts get worse the further it goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkas.checkpoint import Checkpoint
from ringkas.progress import QUIET, Progress
from ringkas.quantize.for_gguf.blocks import BLOCK, FORMATS, LevelGrid, pack

if TYPE_CHECKING:
    import torch
    from torch import nn

    from ringkas.quantize.calibrate import Group, Inputs
    from ringkas.quantize.gptq import Array, Panel
    from ringkas.runtimes.reference import Reference


# The share of the mean diagonal that is added to the second moments. 0.02 to 0.1 measure alike.
DAMPING = 0.05
MOST_TOKENS = 32_768  # the built-in texts of thirteen languages fit; a user's corpus might not


@dataclass
class Calibrated:
    """By transformers' tensor name: finished blocks, changed float tensors; and what was done, JSON-able."""

    blocks: dict[str, npt.NDArray[np.uint8]] = field(default_factory=dict)
    floats: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


def calibrate(
    checkpoint: Checkpoint, reference: Reference, kinds: Mapping[str, str], progress: Progress = QUIET
) -> Calibrated:
    """Rounds every linear layer of the checkpoint's encoder.

    Args:
        checkpoint: what is quantized, calibrated on its calibration texts.
        reference: its weights, which stay as they are.
        kinds: the ggml type of each tensor, by transformers' name.
        progress: where each part is announced.
    """
    from ringkas.quantize import workers
    from ringkas.quantize.calibrate import calibration_source, collected, groups, token_ids

    rows = token_ids(checkpoint, MOST_TOKENS)
    wanted = groups(reference.encoder, checkpoint.family)
    result = Calibrated()

    def rounded(one: tuple[Group, Inputs]) -> Calibrated:
        return _round_group(reference.encoder, *one, kinds)

    layers: list[Any] = [reference.encoder.get_submodule(group.names[0]) for group in wanted]
    width = max(layer.in_features for layer in layers)
    with progress.steps("rounding the linear layers", len(wanted)) as done:
        for part in workers.each(rounded, collected(reference, wanted, rows), width):
            result.blocks |= part.blocks
            result.floats |= part.floats
            done()
    result.report = {
        "method": "gptq",
        "texts": calibration_source(checkpoint),
        "languages": list(checkpoint.languages),
        "tokens": sum(map(len, rows)),
        "damping": DAMPING,
    }
    return result


def _round_group(encoder: nn.Module, group: Group, inputs: Inputs, kinds: Mapping[str, str]) -> Calibrated:
    """The layers that share an input; those of one type are rounded as one."""
    import torch

    from ringkas.quantize.gptq import damped

    layers: dict[str, Any] = {name: encoder.get_submodule(name) for name in group.names}
    by_kind: dict[str, list[str]] = {}
    for name in layers:
        kind = kinds[f"{name}.weight"]
        if kind in FORMATS:  # else it is a float type, asked for or fallen back to
            by_kind.setdefault(kind, []).append(name)
    result = Calibrated()
    for kind, names in by_kind.items():
        weights = torch.cat([layers[name].weight.detach() for name in names])
        # A bias takes what the errors are on average; without one they count with the mean.
        moment = inputs.covariance if layers[names[0]].bias is not None else inputs.moment()
        blocks, rounded = round_compensated(weights, damped(moment, DAMPING), kind)
        shift = (weights - rounded) @ inputs.mean
        start = 0
        for name in names:
            own = slice(start, start := start + len(layers[name].weight))
            result.blocks[f"{name}.weight"] = blocks[own]
            if layers[name].bias is not None:
                result.floats[f"{name}.bias"] = (layers[name].bias.detach() + shift[own]).numpy()
    return result


def round_compensated(
    weights: torch.Tensor, moments: torch.Tensor, kind: str
) -> tuple[npt.NDArray[np.uint8], torch.Tensor]:
    """Rounds `weights` (outputs, inputs), given the inputs' damped second moments (inputs, inputs).

    Returns the bytes of the rows and, as a float tensor of the same shape, exactly what they hold.
    """
    from ringkas.quantize.gptq import by_importance, compensate

    rounder = _BlockRounder(kind, weights)
    compensate(weights, moments, by_importance(moments, BLOCK), BLOCK, rounder)
    return rounder.packed(), rounder.rounded


class _BlockRounder:
    """Rounds a block of 32 channels: first its scales, for what is wanted of it, then its codes."""

    def __init__(self, kind: str, weights: torch.Tensor) -> None:
        import torch

        self._grid = LevelGrid(kind)
        self._nearest = self._grid.nearest.numpy()
        self._levels = self._grid.levels.numpy()
        self._blocks: dict[int, npt.NDArray[np.uint8]] = {}
        self.rounded = torch.empty_like(weights)

    def packed(self) -> npt.NDArray[np.uint8]:
        """The blocks of each row, one after the other."""
        return np.concatenate([self._blocks[start] for start in sorted(self._blocks)], axis=1)

    def __call__(self, panel: Panel) -> Array:
        import torch

        scales = self._grid.search(
            torch.from_numpy(panel.wanted).T.contiguous(), torch.from_numpy(panel.importance)
        )
        scale, minimum = scales.scale[:, 0].numpy(), scales.minimum[:, 0].numpy()
        halves, reach = 2 / scale, len(self._nearest) // 2
        codes = np.empty(panel.exact.shape, np.int64)
        values, errors = np.empty_like(panel.exact), np.empty_like(panel.exact)
        for at, wanted in enumerate(panel.wanted):
            owing = wanted + panel.debts[at, :at] @ errors[:at]
            interval = np.clip(np.floor((owing - minimum) * halves), -reach, reach).astype(np.int64)
            codes[at] = self._nearest[interval + reach]
            values[at] = self._levels[codes[at]] * scale + minimum
            errors[at] = panel.exact[at] - values[at]
        start = panel.channels[0]
        self._blocks[start] = pack(self._grid.kind, torch.from_numpy(codes).T.contiguous(), scales)
        self.rounded[:, start : start + BLOCK] = torch.from_numpy(values).T
        return values
