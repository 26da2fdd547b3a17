"""A checkpoint becomes one GGUF file."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ringkas.checkpoint import Checkpoint
from ringkas.errors import MissingExtra
from ringkas.export.to_gguf.architecture import Architecture, architecture_of
from ringkas.export.to_gguf.llama_quantize import llama_quantize
from ringkas.export.to_gguf.metadata import size_label, write_heads, write_metadata
from ringkas.export.to_gguf.tensors import (
    TABLE,
    GgufTensor,
    describe,
    fallback_warnings,
    in_order,
    plan_tensors,
    tensor_values,
    write_tensors,
)
from ringkas.export.to_gguf.tokenizer import read_vocabulary
from ringkas.progress import QUIET, Progress
from ringkas.quantize.for_gguf.importance import measure_importance
from ringkas.quantize.for_gguf.schemes import GGUF_TARGETS, GgufScheme, Rounding, gguf_scheme
from ringkas.runtimes.engines.llama_header import read_header

if TYPE_CHECKING:
    import torch

    from ringkas.runtimes.reference import Reference
    from ringkas.runtimes.streamed import StreamedWeights

State = Mapping[str, "torch.Tensor"]


@dataclass(frozen=True)
class GgufResult:
    """What was written: the file's name in the folder, how its weights are stored, and what to tell the user.

    `scheme` is JSON-able: types by role, fall-backs by tensor, bits a weight, and the calibration.
    """

    model_file: str
    scheme: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    checkpoint: Checkpoint
    architecture: Architecture
    scheme: GgufScheme
    reference: Reference = field(repr=False)
    streamed: StreamedWeights | None = field(default=None, repr=False)

    @property
    def state(self) -> State:
        """The encoder's tensors, and the Dense modules' as llama.cpp numbers them, from 2 on."""
        return ChainMap(self._dense, self.streamed or self.reference.encoder.state_dict())  # type: ignore[arg-type]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the same, in their order; no weight is read for them."""
        stated = {**self.reference.encoder.state_dict(), **self._dense}
        return {name: tuple(value.shape) for name, value in stated.items()}

    @property
    def _dense(self) -> dict[str, torch.Tensor]:
        dense = dict(self.reference.dense.named_parameters())
        return {
            f"dense_{number}.weight": dense[f"{number - 2}.weight"].detach()
            for number in range(2, 2 + len(self.checkpoint.dense))
        }

    def tensors(self) -> list[GgufTensor]:
        return plan_tensors(self.checkpoint, self.architecture, self.scheme, self.shapes)


def write_gguf(
    checkpoint: Checkpoint,
    target: str,
    folder: Path,
    progress: Progress = QUIET,
    *,
    streamed: bool = False,
) -> GgufResult:
    """Writes `<name>-<size>-<ENCODING>.gguf` into `folder`.

    Args:
        checkpoint: what to convert.
        target: a key of `GGUF_TARGETS`, for example `gguf-q8_0`.
        folder: must exist.
        progress: where stages are announced.
        streamed: hold one tensor at a time, for a checkpoint that is larger than the memory; for targets that
            are rounded without running the model.

    Raises:
        TargetError: no such target, or llama.cpp's graph cannot compute this checkpoint.
        CheckpointError: weights and tokenizer do not fit each other.
        MissingExtra: gguf, torch or (for K-quants and IQ types) llama-cpp-python is not installed.
    """
    scheme = gguf_scheme(target)
    architecture = architecture_of(checkpoint)
    plan = _Plan(checkpoint, architecture, scheme, *_reference(checkpoint, streamed=streamed))
    file = folder / _file_name(plan)
    writer = _WRITERS[scheme.rounding]
    extra = writer(plan, file, progress)
    tensors = _written_tensors(plan.tensors(), file)
    described = {"format": "gguf", "encoding": scheme.encoding, **describe(tensors), **extra}
    return GgufResult(file.name, described, fallback_warnings(tensors))


def _write_nearest(plan: _Plan, file: Path, progress: Progress) -> dict[str, Any]:
    def encode(tensor: GgufTensor) -> npt.NDArray[Any]:
        return to_blocks(tensor_values(tensor, plan.checkpoint, plan.state), tensor.kind)

    _write_file(plan, file, encode)
    return {"rounding": Rounding.NEAREST.value}


def _write_by_llama_cpp(plan: _Plan, file: Path, progress: Progress) -> dict[str, Any]:
    floats = file.with_name(f".{file.name}.floats")
    try:
        _write_nearest(replace(plan, scheme=_floats(plan)), floats, progress)
        if not plan.scheme.importance:
            llama_quantize(floats, file, plan.scheme)
            return {"rounding": Rounding.LLAMA_CPP.value}
        with progress.stage("measuring the importance of each input"):
            importance = measure_importance(plan.checkpoint, plan.reference)
        named = {plan.architecture.gguf_name(name): v for name, v in importance.by_tensor.items()}
        llama_quantize(floats, file, plan.scheme, named)
        return {"rounding": Rounding.LLAMA_CPP.value, "calibration": dict(importance.report)}
    finally:
        floats.unlink(missing_ok=True)


def _write_calibrated(plan: _Plan, file: Path, progress: Progress) -> dict[str, Any]:
    from ringkas.quantize.for_gguf.gptq import calibrate

    kinds = {tensor.source: tensor.kind for tensor in plan.tensors()}
    calibrated = calibrate(plan.checkpoint, plan.reference, kinds, progress)

    def encode(tensor: GgufTensor) -> npt.NDArray[Any]:
        if tensor.source in calibrated.blocks:
            return in_order(tensor, calibrated.blocks[tensor.source])
        values = calibrated.floats.get(tensor.source)
        if values is None:
            values = tensor_values(tensor, plan.checkpoint, plan.state)
        else:
            values = in_order(tensor, values)
        return to_blocks(values, tensor.kind)

    _write_file(plan, file, encode)
    return {"rounding": Rounding.CALIBRATED.value, "calibration": dict(calibrated.report)}


_WRITERS: Mapping[Rounding, Callable[[_Plan, Path, Progress], dict[str, Any]]] = {
    Rounding.NEAREST: _write_nearest,
    Rounding.LLAMA_CPP: _write_by_llama_cpp,
    Rounding.CALIBRATED: _write_calibrated,
}


def to_blocks(values: npt.NDArray[np.float32], kind: str) -> npt.NDArray[Any]:
    """Float weights as the bytes of a ggml type, each weight at its nearest level."""
    import gguf

    if kind == "IQ4_NL":  # the gguf package reads this type and does not write it
        from ringkas.quantize.for_gguf.ggml import ggml_quantize

        return ggml_quantize(values, kind)
    return gguf.quantize(values, gguf.GGMLQuantizationType[kind])


def _write_file(plan: _Plan, file: Path, encode: Callable[[GgufTensor], npt.NDArray[Any]]) -> None:
    import gguf

    tensors = plan.tensors()
    rows = next(tensor.shape[0] for tensor in tensors if tensor.name == TABLE)
    writer = gguf.GGUFWriter(file, plan.architecture.name)
    write_metadata(
        writer, plan.checkpoint, plan.architecture, read_vocabulary(plan.checkpoint, rows), plan.scheme
    )
    writer.add_size_label(size_label(_parameters(plan)))
    if plan.checkpoint.family.grouped_heads:
        write_heads(writer, plan.checkpoint, {tensor.name: tensor.shape[0] for tensor in tensors})
    for number, layer in enumerate(plan.checkpoint.dense, 2):
        writer.add_dense_features_dims(f"dense_{number}", layer.in_features, layer.out_features)
    token_types = next((t.shape[0] for t in tensors if t.name == "token_types.weight"), None)
    if token_types is not None:
        writer.add_token_type_count(token_types)
    write_tensors(writer, tensors, encode)


def _floats(plan: _Plan) -> GgufScheme:
    """What llama.cpp is handed to round: of weights that are read tensor by tensor, their own 16 bits."""
    kept = {"F16": "gguf-f16", "BF16": "gguf-bf16"}.get(plan.streamed.dtype if plan.streamed else "")
    return replace(GGUF_TARGETS[kept or "gguf-f32"], name=plan.scheme.name)  # as the file will say


def _reference(checkpoint: Checkpoint, *, streamed: bool) -> tuple[Reference, StreamedWeights | None]:
    try:
        import gguf  # noqa: F401
    except ModuleNotFoundError:
        raise MissingExtra("gguf", "export,gguf") from None
    if streamed:
        from ringkas.runtimes.streamed import load_streamed

        return load_streamed(checkpoint)
    from ringkas.runtimes.reference import load_reference

    return load_reference(checkpoint), None


def _written_tensors(planned: list[GgufTensor], file: Path) -> list[GgufTensor]:
    """The plan with the types that the file really has: llama.cpp's mixtures choose some themselves."""
    found = read_header(file).tensors
    return [replace(tensor, kind=found[tensor.name].kind) for tensor in planned]


def _file_name(plan: _Plan) -> str:
    name = re.sub(r"[^\w.-]+", "-", plan.checkpoint.name).strip("-.") or "model"
    return f"{name}-{size_label(_parameters(plan))}-{plan.scheme.encoding}.gguf"


def _parameters(plan: _Plan) -> int:
    return sum(map(prod, plan.shapes.values()))
