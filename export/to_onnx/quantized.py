"""ONNX in 8 and 4 bits: the quantised twin of the reference, traced as the reference is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from msgspec.structs import asdict

from ringkas.checkpoint import Checkpoint
from ringkas.export.finish import Shared
from ringkas.export.memory import float32_bytes
from ringkas.export.to_onnx import folding as onnx_folding
from ringkas.export.to_onnx import graph as onnx_graph
from ringkas.export.to_onnx.browser import describe_graphs
from ringkas.family import Handling
from ringkas.progress import QUIET, Progress
from ringkas.quantize.for_onnx.schemes import OnnxScheme

if TYPE_CHECKING:
    from ringkas.quantize.for_onnx.twin import Quantized, Quantizer

# Times the float32 weights that must be free for a quantizer to be kept: its own, and what is made of them.
_KEPT = 3
# The first that has 4-bit tensors, and scales by block.
OPSET = 21
_INTEGERS = "unsigned 8-bit activations times signed 8-bit weights, 32-bit sums"
_FLOATS = f"{_INTEGERS}; where activations are float, so are the weights from loading on"


@dataclass(frozen=True)
class Calibration:
    """How a target of a build comes by a calibrated quantizer, and the next one by the same.

    Args:
        progress: where each part of the work is announced.
        following: the scheme of the target that is written next, if it has one.
        shared: what the target before left.
    """

    progress: Progress = QUIET
    following: OnnxScheme | None = None
    shared: Shared = field(default_factory=Shared)

    def quantizer_for(self, checkpoint: Checkpoint, scheme: OnnxScheme) -> tuple[Quantizer, bool]:
        """One with the statistics of `scheme`, and whether it is kept for the next target."""
        from ringkas.quantize.for_onnx.twin import Quantizer

        found = self.shared.quantizer
        if found is None or not found.serves(scheme):
            found = Quantizer.calibrated(checkpoint, scheme, self.progress)
        found.forget_layers()
        free = psutil.virtual_memory().available
        wanted = self.following is not None and found.serves(self.following)
        kept = wanted and free > _KEPT * float32_bytes(checkpoint)
        self.shared.quantizer = found if kept else None
        return found, kept


def write_quantized(
    checkpoint: Checkpoint,
    scheme: OnnxScheme,
    folder: Path,
    file: str = onnx_graph.MODEL_FILE,
    calibration: Calibration | None = None,
    *,
    single_file: bool = False,
) -> tuple[str, dict[str, object]]:
    """Writes the graph of `scheme` as `file` in `folder`; that name, and the scheme as recorded.

    Raises:
        CheckpointError: the weights cannot be loaded.
        TargetError: the scheme names a layer that is not there, or one file cannot hold the graph.
    """
    calibration = calibration or Calibration()
    quantizer, kept = calibration.quantizer_for(checkpoint, scheme)
    with quantizer.twin(scheme, last=not kept) as quantized, calibration.progress.stage("tracing the graph"):
        return write_twin(checkpoint, scheme, quantized, folder, file, single_file=single_file)


def write_twin(
    checkpoint: Checkpoint,
    scheme: OnnxScheme,
    quantized: Quantized,
    folder: Path,
    file: str = onnx_graph.MODEL_FILE,
    *,
    single_file: bool = False,
) -> tuple[str, dict[str, object]]:
    """As `write_quantized`, of a twin that is there already."""
    from ringkas.export.to_onnx.attention import multi_head
    from ringkas.export.to_onnx.packing import pack_layers

    with multi_head(quantized.reference, checkpoint.family):
        model = onnx_graph.trace(checkpoint, quantized.reference, OPSET)
    # Layers with the same input quantise it once: by equal shifts and factors, as wide as the encoder.
    onnx_folding.share_equal_nodes(model, size_limit=4096)
    onnx_folding.fold_shifts(model)
    onnx_folding.part_outliers(model)
    onnx_folding.sum_residuals(model)
    onnx_folding.drop_head_splits(model)
    pack_layers(model, quantized.packed)
    onnx_folding.fuse_attention(model)
    onnx_graph.save(model, folder, file, single_file=single_file)
    describe_graphs(folder)
    return file, _record(checkpoint, scheme, quantized, onnx_graph.weight_bytes(model))


def _record(
    checkpoint: Checkpoint, scheme: OnnxScheme, quantized: Quantized, stored: int
) -> dict[str, object]:
    """The scheme in full, with what its patterns and budgets came to, and what the weights weigh."""
    handlings = {role.name: scheme.handling(role).value for role in checkpoint.family.roles}
    return {
        **{key: value for key, value in asdict(scheme).items() if key != "target"},
        "activations": handlings,
        "outliers_by_role": {role.name: scheme.outliers_of(role) for role in checkpoint.family.roles},
        "wide_layers": list(quantized.wide),
        "float_layers": list(quantized.floating),
        "opset": OPSET,
        "computed": _FLOATS if Handling.FLOAT.value in handlings.values() else _INTEGERS,
        "calibration": {"texts": quantized.texts, "tokens": quantized.tokens},
        "stored_bits_per_weight": round(8 * stored / quantized.weights, 3),
    }
