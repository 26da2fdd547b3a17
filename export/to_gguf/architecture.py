"""A family as llama.cpp knows it: whether its graph computes the same, and what it calls each tensor."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError, MissingExtra, TargetError
from ringkas.family import Config, Gguf, Positions
from ringkas.runtimes.engines.llama_check import POOLING_NUMBERS

_SUFFIXES = (".weight", ".bias")


@dataclass(frozen=True)
class Architecture:
    """A family's row for llama.cpp, for an encoder of so many layers."""

    gguf: Gguf
    layers: int

    @property
    def name(self) -> str:
        return self.gguf.architecture

    def gguf_name(self, name: str) -> str:
        """The GGUF name of transformers' tensor `name`, by the family's row or the gguf package's own map.

        Raises:
            CheckpointError: llama.cpp has no place for it.
        """
        found = self._own_name(name) or self._names.get_name(name, try_suffixes=_SUFFIXES)
        if found is None:
            raise CheckpointError(
                f"the tensor {name} has no place in llama.cpp's {self.name} graph",
                why="leaving it out would change the vectors without a word",
                fix="Use an ONNX target",
            )
        return str(found)

    def _own_name(self, name: str) -> str | None:
        layer = next((part for part in name.split(".") if part.isdecimal()), "")
        stem, _, suffix = name.rpartition(".")
        template = self.gguf.names.get(stem.replace(f".{layer}.", ".{}."))
        return template and f"{template.format(layer)}.{suffix}"

    @cached_property
    def _names(self) -> Any:
        try:
            import gguf
        except ModuleNotFoundError:
            raise MissingExtra("gguf", "export,gguf") from None
        number = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == self.name)
        return gguf.get_tensor_name_map(number, self.layers)


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """The architecture of `checkpoint`, after checking that llama.cpp's graph computes the same.

    Raises:
        TargetError: it cannot.
    """
    facts = checkpoint.family.gguf_of(checkpoint.config)
    if isinstance(facts, str):
        raise TargetError(f"{checkpoint.name} cannot become a GGUF file", why=facts, fix="Use an ONNX target")
    for problem in _differences(checkpoint, facts):
        raise TargetError(
            f"{checkpoint.name} cannot become a GGUF file: {problem}",
            why=f"llama.cpp's {facts.architecture} graph has no such thing, and its vectors would differ",
            fix="Use an ONNX target",
        )
    return Architecture(facts, int(checkpoint.family.value(checkpoint.config, "num_hidden_layers")))


def _differences(checkpoint: Checkpoint, facts: Gguf) -> Iterable[str]:
    for key, allowed in facts.required.items():
        value = checkpoint.family.value(checkpoint.config, key)
        if value not in allowed:
            yield f"its config.json has {key} = {value!r}"
    if checkpoint.spec.pooling.modes not in POOLING_NUMBERS:
        yield f"it pools by {'+'.join(checkpoint.spec.pooling.modes)}"
    if len(checkpoint.dense) > facts.dense:
        yield "it has a Dense layer after the pooling" if not facts.dense else "it has many Dense layers"
    for layer in checkpoint.dense:
        if layer.bias or layer.activation != "identity":
            yield "its Dense layers have biases or an activation"
    if checkpoint.dense and checkpoint.spec.dimension != checkpoint.config["hidden_size"]:
        yield "its Dense layers give vectors of another width than the encoder's"
    if checkpoint.family.positions is Positions.ROTARY:
        yield from (f"its rotary positions are of the type {kind!r}" for kind in _scaled(checkpoint.config))
    window = checkpoint.config.get("sliding_window")
    if not facts.windows and window and checkpoint.spec.max_length > window and _slides(checkpoint.config):
        yield f"its window is {window} tokens and a text may have {checkpoint.spec.max_length}"


def _scaled(config: Config) -> Iterable[str]:
    """The types of rotary positions that are more than an angle for each place."""
    stated = [config.get("rope_parameters") or {}, config.get("rope_scaling") or {}]
    stated += [inner for one in stated for inner in one.values() if isinstance(inner, Mapping)]
    kinds = [one.get("rope_type", one.get("type")) for one in stated]
    yield from (str(kind) for kind in kinds if kind not in (None, "default"))
    if any(one.get("partial_rotary_factor", 1) != 1 for one in (*stated, config)):
        yield "partial"


def _slides(config: Config) -> bool:
    # Of the families that may go without their window, this key takes it away.
    return bool(config.get("use_sliding_window", True))
