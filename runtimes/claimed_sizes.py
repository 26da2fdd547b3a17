"""Whether a configuration claims no more than the weights hold: a library makes room for what is claimed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.family import Positions
from ringkas.tensors import Tensor


def check_claims(checkpoint: Checkpoint, tensors: Sequence[Tensor]) -> None:
    """Raises `CheckpointError` where config.json claims more layers, rows or width than the tensors have."""
    for key, most in _bounds(checkpoint, tensors):
        stated = checkpoint.family.value(checkpoint.config, key)
        if stated is None:
            continue
        if type(stated) is not int or not 0 < stated <= most:
            raise CheckpointError(
                f"the weights of {checkpoint.path} do not fit its config.json",
                why="tensors that are missing or differ in shape: "
                f"it claims {str(stated)[:40]} for {key}, and the weights have {most}",
            )


def _bounds(checkpoint: Checkpoint, tensors: Sequence[Tensor]) -> Iterator[tuple[str, int]]:
    family = checkpoint.family
    # A file may have the names of code of its own, which transformers translates: `layer` for `layers`.
    numbered = re.compile(rf"(?:^|\.){re.escape(family.layers.rstrip('s'))}s?\.(\d+)\.")
    found = [(match[1], tensor) for tensor in tensors if (match := numbered.search(tensor.name))]
    widest = max((size for _, tensor in found for size in tensor.shape), default=0)
    yield "num_hidden_layers", len({number for number, _ in found})
    yield "intermediate_size", widest
    yield "num_attention_heads", widest
    yield "num_key_value_heads", widest
    yield "head_dim", widest
    tables = [tensor.shape for tensor in tensors if tensor.name.endswith(f"{family.token_table}.weight")]
    yield "vocab_size", max((shape[0] for shape in tables if len(shape) == 2), default=0)
    yield "hidden_size", max((widest, *(shape[1] for shape in tables if len(shape) == 2)))
    if family.positions is not Positions.ROTARY:
        rows = [tensor.shape[0] for tensor in tensors if len(tensor.shape) == 2]
        yield "max_position_embeddings", max(rows, default=0)
