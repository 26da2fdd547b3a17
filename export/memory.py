"""Whether a checkpoint fits into this machine's memory, asked before hours are spent on it."""

from __future__ import annotations

import psutil

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.export.vocabulary.weights import parameters
from ringkas.tensors import read_tensors

# Of one weight in the reference, which is float32 whatever the checkpoint's type.
_BYTES = 4


def require_memory(checkpoint: Checkpoint, memory: int | None = None) -> None:
    """Refuses a checkpoint whose float32 weights alone are more than the machine's memory.

    What conversion takes beside them (a graph, the witness, calibration) is not counted: what passes may be
    too much all the same, what is refused certainly is.

    Args:
        checkpoint: what is to be converted; only the headers of its weights are read.
        memory: bytes; the machine's own where None.

    Raises:
        CheckpointError: it does not fit.
    """
    if memory is None:
        memory = int(psutil.virtual_memory().total)
    weights = parameters(read_tensors(checkpoint.path))
    if _BYTES * weights > memory:
        needed = _BYTES * weights / 1e9
        raise CheckpointError(
            f"{checkpoint.name} has {weights / 1e6:,.0f} million weights: {needed:,.1f} GB in float32, "
            f"and this machine has {memory / 1e9:,.1f} GB of memory",
            why="every artifact is compared with the reference, which is run in float32",
            fix=f"Convert it on a machine with at least {1.5 * needed:,.1f} GB",
        )
