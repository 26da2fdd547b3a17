"""What the linear layers of an encoder are given on the calibration texts, one layer at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ringkas.checkpoint import Checkpoint
from ringkas.families import FAMILIES
from ringkas.runtimes.batching import batches
from ringkas.tokens import pad

if TYPE_CHECKING:
    import torch

_BATCH_TOKENS = 2048
_MOST_TOKENS = 32_768  # the built-in texts of thirteen languages fit; a user's corpus might not


@dataclass(frozen=True)
class Arguments:
    """What a layer is called with after the hidden state."""

    positional: tuple[Any, ...]
    named: Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """Token ids and mask, int64 of shape (texts, tokens), and what each layer is given besides the hidden
    state (masks, positions): the same for every set of weights."""

    ids: torch.Tensor
    mask: torch.Tensor
    arguments: tuple[Arguments, ...]


class LayerStep:
    """One transformer layer: its linear layers by name, and running it on the hidden state before it."""

    def __init__(self, index: int, path: str, module: Any, stages: tuple[tuple[str, ...], ...]) -> None:
        self.name, self.stages = f"{path}.{index}", stages
        self._index, self._module = index, module

    def linear(self, name: str) -> Any:
        return self._module.get_submodule(name)

    def run(self, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
        """The hidden state after this layer, (texts, tokens, width)."""
        given = batch.arguments[self._index]
        output = self._module(hidden, *given.positional, **given.named)
        return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]

    def inputs_of(self, name: str, batch: Batch, hidden: torch.Tensor) -> torch.Tensor:
        """The inputs of the linear layer `name` at the tokens of the batch: (tokens, width)."""
        caught: list[torch.Tensor] = []

        def catch(module: Any, arguments: tuple[torch.Tensor, ...]) -> None:
            caught.append(arguments[0])

        handle = self.linear(name).register_forward_pre_hook(catch)
        try:
            self.run(batch, hidden)
        finally:
            handle.remove()
        return caught[0].reshape(*hidden.shape[:2], -1)[batch.mask.bool()]


def layers_of(encoder: Any) -> list[LayerStep]:
    """The layers of a transformers encoder, first to last."""
    family = FAMILIES[encoder.config.model_type]
    path, stages = family.layers, tuple(role.layers for role in family.roles)
    modules = encoder.get_submodule(path)
    return [LayerStep(index, path, module, stages) for index, module in enumerate(modules)]


def calibration_source(checkpoint: Checkpoint) -> str:
    """Where the texts come from, as an artifact records it."""
    built_in = "the built-in calibration set"
    return f"the corpus's calibration part, then {built_in}" if checkpoint.calibration_texts else built_in


def calibration_batches(checkpoint: Checkpoint, encoder: Any) -> list[Batch]:
    """The checkpoint's calibration texts as padded batches."""
    import torch

    from ringkas.quantize.calibrate import token_ids

    ids = token_ids(checkpoint, _MOST_TOKENS)
    made = []
    for rows in batches([len(row) for row in ids], _BATCH_TOKENS):
        padded = pad([ids[row] for row in rows], checkpoint.spec.pad_id)
        tokens, mask = torch.from_numpy(padded.input_ids), torch.from_numpy(padded.attention_mask)
        made.append(Batch(tokens, mask, tuple(_arguments(encoder, tokens, mask))))
    return made


def first_hidden(encoder: Any, batch: Batch) -> torch.Tensor:
    """The hidden state that enters the first layer."""
    path = FAMILIES[encoder.config.model_type].layers
    caught: list[torch.Tensor] = []

    def stop(layer: Any, positional: tuple[Any, ...]) -> None:
        caught.append(positional[0])
        raise _Reached

    handle = encoder.get_submodule(path)[0].register_forward_pre_hook(stop)
    try:
        encoder(input_ids=batch.ids, attention_mask=batch.mask)
    except _Reached:
        pass
    finally:
        handle.remove()
    return caught[0]


class _Reached(Exception):
    pass


def _arguments(encoder: Any, ids: torch.Tensor, mask: torch.Tensor) -> list[Arguments]:
    path = FAMILIES[encoder.config.model_type].layers
    caught: list[Arguments] = []

    def keep(layer: Any, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        caught.append(Arguments(positional[1:], dict(named)))

    handles = [
        layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in encoder.get_submodule(path)
    ]
    try:
        encoder(input_ids=ids, attention_mask=mask)
    finally:
        for handle in handles:
            handle.remove()
    return caught
