"""A checkpoint that cannot fit is refused before anything is spent on it."""

from __future__ import annotations

import pytest

from ringkas import open_checkpoint
from ringkas.errors import CheckpointError
from ringkas.export.memory import require_memory
from ringkas.export.vocabulary.weights import parameters
from ringkas.targets import target
from ringkas.tensors import read_tensors


def test_weights_that_do_not_fit_are_refused_with_the_estimate() -> None:
    checkpoint = open_checkpoint("demo")
    needed = 4 * parameters(read_tensors(checkpoint.path))
    onnx = [target("onnx-int8")]
    require_memory(checkpoint, onnx)
    require_memory(checkpoint, onnx, needed)
    with pytest.raises(CheckpointError, match=r"0\.023 billion weights: 0\.1 GB in float32") as caught:
        require_memory(checkpoint, onnx, needed - 1)
    assert "machine with at least 0.1 GB" in caught.value.fix
    assert "onnx-int8 needs them at once" in caught.value.why
    with pytest.raises(CheckpointError, match="bert is no family that is run layer by layer"):
        require_memory(checkpoint, [target("gguf-q8_0")], needed - 1)
