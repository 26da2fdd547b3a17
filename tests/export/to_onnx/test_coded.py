"""Tables of codes: the graph gives what the twin does, and other codes are seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from msgspec.structs import replace
from onnx import numpy_helper

from ringkas import open_checkpoint
from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.export.to_onnx.quantized import write_twin
from ringkas.quantize.calibrate import token_ids
from ringkas.quantize.for_onnx.layers import CodeTable
from ringkas.quantize.for_onnx.schemes import SCHEMES
from ringkas.quantize.for_onnx.twin import Quantizer
from ringkas.runtimes.engines.onnxruntime_engine import open_session
from ringkas.runtimes.parity.judge import cosine

Array = npt.NDArray[Any]
INT3 = SCHEMES["onnx-int3"]


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint: Callable[..., Path]) -> Checkpoint:
    return open_checkpoint(small_checkpoint(width=64, max_length=64))


@pytest.fixture(scope="module")
def quantizer(checkpoint: Checkpoint) -> Quantizer:
    return Quantizer(checkpoint, token_ids(checkpoint, 600))


def vectors(graph: Path, rows: list[Array]) -> Array:
    session = open_session(graph, 1)
    feeds = [{"input_ids": row, "attention_mask": np.ones_like(row)} for row in rows]
    return np.vstack([session.run(["sentence_embedding"], feed)[0] for feed in feeds])


def test_the_graph_gives_the_twins_vectors_and_other_codes_are_seen(
    checkpoint: Checkpoint, quantizer: Quantizer, tmp_path: Path
) -> None:
    rows = [np.array([row]) for row in quantizer.rows[:8]]
    with quantizer.twin(INT3) as twin:
        table = twin.reference.encoder.get_submodule("embeddings.word_embeddings")
        assert isinstance(table, CodeTable)
        with torch.inference_mode():
            given = [torch.from_numpy(row) for row in rows]
            expected = np.vstack([twin.reference(row, torch.ones_like(row))[1].numpy() for row in given])
        file, record = write_twin(checkpoint, INT3, twin, tmp_path)
    assert record["table_bits"] == 2
    assert cosine(expected, vectors(tmp_path / file, rows)).min() > 0.9999
    model = onnx.load(tmp_path / file)
    (codes,) = (one for one in model.graph.initializer if one.name.endswith("word_embeddings.weight"))
    stored = numpy_helper.to_array(codes)
    np.testing.assert_array_equal(stored, table.weight.numpy())
    assert (stored.dtype, stored.shape[1]) == (np.uint8, 64 // 4)
    codes.CopyFrom(numpy_helper.from_array(np.roll(stored, 1, axis=1), codes.name))
    onnx.save(model, tmp_path / "shuffled.onnx")
    assert cosine(expected, vectors(tmp_path / "shuffled.onnx", rows)).max() < 0.99


def test_a_table_that_does_not_fit_its_codes_is_refused(small_checkpoint: Callable[..., Path]) -> None:
    checkpoint = open_checkpoint(small_checkpoint(width=64, max_length=64))
    quantizer = Quantizer(checkpoint, token_ids(checkpoint, 100))
    with pytest.raises(CheckpointError, match="word_embeddings, which is 64 wide"), \
            quantizer.twin(replace(INT3, table_bits=3)):  # fmt: skip
        pass
