"""Who judges a plan that cannot be executed where it is built: the same graph in another runtime."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ringkas.artifact import Artifact
from ringkas.checkpoint import Checkpoint
from ringkas.export.to_onnx.graph import MODEL_FILE
from ringkas.export.to_tensorrt.graph import ATTENTION
from ringkas.quantize.for_tensorrt.schemes import tensorrt_scheme
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Engine, Vectors
from ringkas.runtimes.engines.onnx_oracle import ORACLE, OracleEngine
from ringkas.tokens import TextTokenizer, TokenBatch

PYTORCH_ORACLE = (
    "oracle: PyTorch in bfloat16 on the CPU, the module that the graph was traced from, since ONNX Runtime's "
    "CPU has no such products; the plan itself was not executed"
)


@dataclass(frozen=True)
class Oracle:
    """An encoder to judge, and in words whose verdict that is."""

    encoder: Encoder
    engine: str


def open_oracle(checkpoint: Checkpoint, artifact: Artifact) -> Oracle:
    """The oracle of a typed graph: ONNX Runtime, or PyTorch where that has no kernels for the type."""
    spec, scheme = artifact.manifest.encoding, tensorrt_scheme(artifact.manifest.target)
    in_pytorch = scheme.dtype == "bfloat16"
    engine = (
        TwinEngine(checkpoint, artifact) if in_pytorch else OracleEngine(artifact.path / MODEL_FILE, spec)
    )
    encoder = Encoder(spec, TextTokenizer(artifact.path, spec), engine)
    return Oracle(encoder, PYTORCH_ORACLE if in_pytorch else ORACLE)


class TwinEngine(Engine):
    """Runs the PyTorch module that the graph was traced from."""

    def __init__(self, checkpoint: Checkpoint, artifact: Artifact) -> None:
        from ringkas.quantize.for_tensorrt.twin import typed

        spec = artifact.manifest.encoding
        super().__init__(spec.dimension, spec.max_length)
        self._twin = typed(checkpoint, tensorrt_scheme(artifact.manifest.target), ATTENTION).reference

    def _run(self, batch: TokenBatch) -> Vectors:
        import torch

        with torch.inference_mode():
            ids, mask = torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask)
            return np.asarray(self._twin(ids, mask)[1].numpy())
