"""The oracle: a typed graph run by ONNX Runtime on the CPU, node by node, as the graph says.

It stands in for a plan that cannot be executed where it is built. Optimisations are off: they would replace
8-bit Q/DQ by kernels of the CPU's own, and there are none for 8-bit floats.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ringkas.errors import ArtifactError
from ringkas.extras import load_onnxruntime
from ringkas.runtimes.engine import Engine, Vectors
from ringkas.spec import SENTENCE_OUTPUT, TOKEN_OUTPUT, EncodingSpec
from ringkas.tokens import TokenBatch

ORACLE = "oracle: ONNX Runtime on the CPU, the same typed graph; the plan itself was not executed"
_ERRORS_ONLY = 3


class OracleEngine(Engine):
    """Runs a graph with int32 inputs."""

    def __init__(self, model: Path, spec: EncodingSpec) -> None:
        super().__init__(spec.dimension, spec.max_length)
        onnxruntime = load_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = _ERRORS_ONLY
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(model), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime raises a type for each of its status codes
            raise ArtifactError(
                f"ONNX Runtime cannot load {model}",
                why=str(error).splitlines()[0],
                fix="Upgrade onnxruntime, which judges the graph before it is built",
            ) from None

    def _run(self, batch: TokenBatch) -> Vectors:
        return self._output(batch, SENTENCE_OUTPUT)

    def _token_vectors(self, batch: TokenBatch) -> Vectors:
        return self._output(batch, TOKEN_OUTPUT)

    def _output(self, batch: TokenBatch, name: str) -> Vectors:
        feed = {
            "input_ids": batch.input_ids.astype(np.int32),
            "attention_mask": batch.attention_mask.astype(np.int32),
        }
        return np.asarray(self._session.run([name], feed)[0])
