"""A checkpoint that cannot fit is refused before anything is spent on it."""

from __future__ import annotations

import pytest

from ringkas import open_checkpoint
from ringkas.errors import CheckpointError
from ringkas.export.memory import require_memory
from ringkas.export.vocabulary.weights import parameters
from ringkas.tensors import read_tensors


def test_weights_that_do_not_fit_are_refused_with_the_estimate() -> None:
    checkpoint = open_checkpoint("demo")
    needed = 4 * parameters(read_tensors(checkpoint.path))
    require_memory(checkpoint)
    require_memory(checkpoint, needed)
    with pytest.raises(CheckpointError, match=r"23 million weights: 0\.1 GB in float32") as caught:
        require_memory(checkpoint, needed - 1)
    assert "machine with at least 0.1 GB" in caught.value.fix
