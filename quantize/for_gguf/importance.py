"""The importance matrix of llama.cpp's quantizer: how large each input of each linear layer is on real text.

llama.cpp's search for a block's scale then weighs the squared error of each weight by the mean square of what
it is multiplied with, instead of by the weight alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkas.checkpoint import Checkpoint
from ringkas.quantize.for_gguf.gptq import MOST_TOKENS

if TYPE_CHECKING:
    from ringkas.runtimes.reference import Reference


@dataclass(frozen=True)
class Importance:
    """By transformers' tensor name: the mean square of each input channel, float32 of shape (inputs,).

    `report` is JSON-able: which texts, and how many tokens.
    """

    by_tensor: Mapping[str, npt.NDArray[np.float32]]
    report: Mapping[str, Any]


def measure_importance(checkpoint: Checkpoint, reference: Reference) -> Importance:
    """Mean squares over the tokens of the built-in calibration texts, in the unquantized encoder."""
    from ringkas.quantize.calibrate import calibration_source, collect, groups, token_ids

    rows = token_ids(checkpoint, MOST_TOKENS)
    wanted = groups(reference.encoder, checkpoint.family)
    gathered = collect(reference, wanted, rows, covariance_width=0)
    by_tensor = {
        f"{name}.weight": inputs.moment().numpy()
        for group, inputs in gathered.items()
        for name in group.names
    }
    report = {
        "method": "importance matrix",
        "what it changes": "the rounding alone: every tensor has the type that it has without one",
        "texts": calibration_source(checkpoint),
        "languages": list(checkpoint.languages),
        "sentences": len(rows),
        "tokens": sum(map(len, rows)),
    }
    return Importance(by_tensor, report)
