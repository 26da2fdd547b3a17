"""A family as llama.cpp knows it: whether its graph computes the same, and what it calls each tensor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError, MissingExtra, TargetError
from ringkas.family import Gguf
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
        """The GGUF name of transformers' tensor `name`, by the gguf package's own map.

        Raises:
            CheckpointError: llama.cpp has no place for it.
        """
        found = self._names.get_name(name, try_suffixes=_SUFFIXES)
        if found is None:
            raise CheckpointError(
                f"the tensor {name} has no place in llama.cpp's {self.name} graph",
                why="leaving it out would change the vectors without a word",
                fix="Use an ONNX target",
            )
        return str(found)

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
    facts = checkpoint.family.gguf
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
    if checkpoint.dense:
        yield "it has a Dense layer after the pooling"
