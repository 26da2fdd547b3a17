"""Whether a checkpoint fits into memory, asked before hours are spent on it."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.export.vocabulary.weights import parameters
from ringkas.targets import Target
from ringkas.tensors import read_tensors

# Of one weight in the reference, which is float32 whatever the checkpoint's type.
_BYTES = 4


def is_streamed(checkpoint: Checkpoint, memory: int | None = None) -> bool:
    """Whether a checkpoint's float32 weights alone are more than `memory`: it is then read tensor by tensor.

    Args:
        checkpoint: what is to be converted; only the headers of its weights are read.
        memory: bytes; the machine's own where None.
    """
    return float32_bytes(checkpoint) > _allowed(memory)


def require_memory(checkpoint: Checkpoint, targets: Sequence[Target], memory: int | None = None) -> None:
    """Refuses a checkpoint that does not fit and cannot be read tensor by tensor.

    What conversion takes beside the weights (a graph, the witness, calibration) is not counted: what passes
    may be too much all the same, what is refused certainly is.

    Raises:
        CheckpointError: a target needs the weights at once, or the family is not run layer by layer.
    """
    if not is_streamed(checkpoint, memory):
        return
    needed, allowed = float32_bytes(checkpoint) / 1e9, _allowed(memory) / 1e9
    whole = [one.name for one in targets if not one.format.streams]
    if not whole and checkpoint.family.final_norm:
        return
    raise CheckpointError(
        f"{checkpoint.name} has {needed / _BYTES:,.3f} billion weights: {needed:,.1f} GB in float32, of "
        f"{allowed:,.1f} GB of memory",
        why=f"{whole[0]} needs them at once"
        if whole
        else f"{checkpoint.family.name} is no family that is run layer by layer",
        fix=f"Convert it on a machine with at least {1.5 * needed:,.1f} GB"
        + (", or to GGUF, tensor by tensor" if whole and checkpoint.family.final_norm else ""),
    )


def float32_bytes(checkpoint: Checkpoint) -> int:
    """What the weights take in the reference; only their headers are read."""
    return _BYTES * parameters(read_tensors(checkpoint.path))


def _allowed(memory: int | None) -> int:
    return int(psutil.virtual_memory().total) if memory is None else memory
