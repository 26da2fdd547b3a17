"""A decoder larger than the memory: its weights stay in their files, and one layer is there at a time.

All texts go through a layer before the next one is read, so that a pass over the weights serves them all.
What a layer is called with, its mask and its rotations, transformers' own code says: it runs once a batch
over layers that only write that down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.runtimes.claimed_sizes import check_claims
from ringkas.runtimes.engine import Engine, Vectors
from ringkas.runtimes.reference import Reference, check_unused, dense_of, encoder_inputs
from ringkas.tensors import Tensor as Stored
from ringkas.tensors import read_tensors
from ringkas.tokens import TokenBatch

# Of hidden states that wait for the next layer. Half of what remains of 4 GB beside a layer of 13 billion.
_STATES_BYTES = 768 << 20
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class StreamedWeights(Mapping[str, Tensor]):
    """The tensors of an encoder by its own names, each read from the checkpoint's files when it is asked for.

    Args:
        checkpoint: whose files are read; they are checked for being what they claim.
        encoder: whose parameters say the names and shapes.

    Raises:
        CheckpointError: a tensor is missing, has another shape, or is of a type that is not read.
    """

    def __init__(self, checkpoint: Checkpoint, encoder: nn.Module) -> None:
        self.shapes = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
        stored = {one.name: one for one in read_tensors(checkpoint.path)}
        prefix = f"{getattr(encoder, 'base_model_prefix', '')}."
        self._places: dict[str, Stored] = {}
        for name, shape in self.shapes.items():
            found = stored.get(name) or stored.get(prefix + name)
            if found is None or found.shape != shape or found.dtype not in _DTYPES:
                raise CheckpointError(
                    f"{checkpoint.path} cannot be read tensor by tensor",
                    why=f"{name} is not there as {shape} in one of {', '.join(_DTYPES)}",
                    fix="Convert it on a machine whose memory holds it whole",
                )
            self._places[name] = found
        used = {one.name for one in self._places.values()}
        self.unused = tuple(sorted(set(stored) - used))
        dtypes = {place.dtype for place in self._places.values()}
        self.dtype = dtypes.pop() if len(dtypes) == 1 else "F32"  # one that holds them all

    def __getitem__(self, name: str) -> Tensor:
        """In the file's own type."""
        place = self._places[name]
        return self._read(place, 0, place.size).reshape(place.shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)

    def rows(self, name: str, rows: Sequence[int]) -> Tensor:
        """Some rows of a matrix, float32."""
        place = self._places[name]
        read = [self._read(place, row * place.row_bytes, place.row_bytes) for row in rows]
        return torch.stack(read).float()

    def under(self, module: str) -> dict[str, Tensor]:
        """The parameters of one of the encoder's modules by their names in it, float32."""
        start = f"{module}."
        return {
            name.removeprefix(start): self[name].float() for name in self.shapes if name.startswith(start)
        }

    def _read(self, place: Stored, start: int, size: int) -> Tensor:
        with place.file.open("rb") as stream:
            stream.seek(place.start + start)
            data = bytearray(stream.read(size))
        if len(data) != size:
            raise CheckpointError(f"{place.file} is truncated", fix="Fetch the checkpoint again")
        return torch.frombuffer(data, dtype=_DTYPES[place.dtype])


def load_streamed(checkpoint: Checkpoint) -> tuple[Reference, StreamedWeights]:
    """The reference without its weights, on which nothing but its parts can run, and the weights.

    Raises:
        CheckpointError: the files do not hold what the configuration says.
    """
    from transformers import AutoConfig, AutoModel

    check_claims(checkpoint, read_tensors(checkpoint.path))
    config = AutoConfig.from_pretrained(checkpoint.path, trust_remote_code=False, local_files_only=True)
    config.use_cache = False
    with _no_parameters():
        encoder = AutoModel.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32, attn_implementation="sdpa"
        )
    weights = StreamedWeights(checkpoint, encoder)
    check_unused(checkpoint, encoder, weights.unused)
    reference = Reference(encoder, checkpoint.spec, dense_of(checkpoint)).eval()
    reference.unused = weights.unused
    return reference, weights


@contextmanager
def _no_parameters() -> Iterator[None]:
    """Modules that are made meanwhile have parameters without values; their buffers are real."""
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        register(module, name, parameter)
        if parameter is not None:
            module._parameters[name] = nn.Parameter(parameter.to("meta"), requires_grad=False)

    nn.Module.register_parameter = register_empty  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


@dataclass
class _Waiting:
    """A batch on its way: its states, and what each layer is called with beside them."""

    batch: TokenBatch
    states: Tensor
    calls: list[dict[str, Any]] = field(default_factory=list)


class StreamedEngine(Engine):
    """Runs a checkpoint of a family of decoders layer by layer, in float32 on the CPU.

    Raises:
        CheckpointError: the weights cannot be read tensor by tensor.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__(checkpoint.spec.dimension, checkpoint.spec.max_length)
        self._reference, self._weights = load_streamed(checkpoint)
        self._encoder: Any = self._reference.encoder
        self._family = checkpoint.family
        self.unused = self._reference.unused

    def run_many(self, batches: Iterable[TokenBatch]) -> Iterator[Vectors]:
        """One pass over the weights for as many batches as may wait at a time."""
        group: list[TokenBatch] = []
        held, width = 0, 4 * self._encoder.config.hidden_size
        for batch in batches:
            self._check_length(batch)
            if group and held + batch.input_ids.size * width > _STATES_BYTES:
                yield from self._pass(group)
                group, held = [], 0
            group.append(batch)
            held += batch.input_ids.size * width
        if group:
            yield from self._pass(group)

    def _run(self, batch: TokenBatch) -> Vectors:
        (vectors,) = self._pass([batch])
        return vectors

    def _pass(self, group: Sequence[TokenBatch]) -> Iterator[Vectors]:
        with torch.inference_mode():
            waiting = self._started(group)
            for number in range(len(self._encoder.get_submodule(self._family.layers))):
                self._through_layer(number, waiting)
            norm = self._encoder.get_submodule(self._family.final_norm)
            parameters = self._weights.under(self._family.final_norm)
            for one in waiting:
                mask = torch.from_numpy(one.batch.attention_mask)
                states = functional_call(norm, parameters, (one.states,))
                yield self._checked(one.batch, np.asarray(self._reference.pooled(states, mask).numpy()))

    def _through_layer(self, number: int, waiting: Sequence[_Waiting]) -> None:
        """All batches through one layer, whose weights are gone when this returns."""
        name = f"{self._family.layers}.{number}"
        layer, parameters = self._encoder.get_submodule(name), self._weights.under(name)
        for one in waiting:
            given = functional_call(layer, parameters, (one.states,), one.calls[number])
            one.states = given[0] if isinstance(given, tuple) else given

    def _started(self, group: Sequence[TokenBatch]) -> list[_Waiting]:
        """The batches before the first layer. Of the token table only the rows that they name are read."""
        table = f"{self._family.token_table}.weight"
        ids = np.unique(np.concatenate([batch.input_ids.ravel() for batch in group]))
        if ids[-1] >= self._weights.shapes[table][0]:
            raise CheckpointError(f"the tokenizer gives the id {ids[-1]}, for which the table has no row")
        rows = self._weights.rows(table, ids.tolist())
        waiting = []
        for batch in group:
            one = _Waiting(batch, torch.empty(0))
            with self._writing_down(one):
                inputs = encoder_inputs(
                    self._family,
                    torch.from_numpy(np.searchsorted(ids, batch.input_ids)),
                    torch.from_numpy(batch.attention_mask),
                    torch.float32,
                )
                functional_call(self._encoder, {table: rows}, (), inputs)
            waiting.append(one)
        return waiting

    @contextmanager
    def _writing_down(self, one: _Waiting) -> Iterator[None]:
        """While it lasts the layers pass their input on, and leave in `one` what they were called with."""

        def write_down(number: int, states: Tensor, *rest: Any, **options: Any) -> Tensor:
            if number == 0:
                one.states = states
            if rest:
                raise CheckpointError("transformers calls the layers in a way that is not known here")
            one.calls.append(options)
            return states

        layers = self._encoder.get_submodule(self._family.layers)
        norm = self._encoder.get_submodule(self._family.final_norm)
        for number, layer in enumerate(layers):
            layer.forward = partial(write_down, number)
        norm.forward = lambda states: states
        try:
            yield
        finally:
            for module in (*layers, norm):
                del module.forward
