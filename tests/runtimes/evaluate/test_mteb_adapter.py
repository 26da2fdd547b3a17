"""The adapter for mteb: the right prompt for each task and side, and the facade's vectors.

That mteb finds the scores that `ringkas evaluate` finds is shown by benchmarks/peers/mteb_offline.py, in an
environment of mteb's own.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ringkas import RingkasError, load
from ringkas.runtimes.evaluate.mteb_adapter import MtebEncoder, prompt_name
from ringkas.spec import EncodingSpec

E5 = {"query": "query: ", "passage": "passage: "}
SEA_LION = {name: f"Instruct: {name}\nQuery: " for name in ("STS", "Clustering", "Retrieval")}
SPECIAL = E5 | {"STS": "a", "ArguAna": "b", "ArguAna-document": "c"}


@pytest.mark.parametrize(
    ("prompts", "task", "kind", "side", "expected"),
    [
        ({}, "ArguAna", "Retrieval", "query", ""),
        (E5, "ArguAna", "Retrieval", "query", "query"),
        (E5, "ArguAna", "Retrieval", "document", "passage"),
        (E5, "STS12", "STS", None, "query"),
        (SEA_LION, "ArguAna", "Retrieval", "query", "Retrieval"),
        (SEA_LION, "ArguAna", "Retrieval", "document", ""),
        (SEA_LION, "STS12", "STS", None, "STS"),
        (SEA_LION, "Banking77", "Classification", None, "Retrieval"),
        (SPECIAL, "ArguAna", "Retrieval", "query", "ArguAna"),
        (SPECIAL, "ArguAna", "Retrieval", "document", "ArguAna-document"),
        (SPECIAL, "STS12", "STS", None, "STS"),
    ],
)
def test_prompts(prompts: dict[str, str], task: str, kind: str, side: str | None, expected: str) -> None:
    spec = EncodingSpec(family="none", max_length=8, dimension=4, prompts=prompts)
    assert prompt_name(spec, task, kind, side) == expected


def test_batches_become_the_vectors_of_the_facade(demo_artifacts: Path) -> None:
    model = MtebEncoder(demo_artifacts / "onnx-fp32")
    task = SimpleNamespace(name="one", type="STS")
    batches = [{"text": ["a cat", "a dog"]}, {"text": ["a house"]}]
    found = model.encode(batches, task_metadata=task, hf_split="test", hf_subset="default", batch_size=2)
    with load(demo_artifacts / "onnx-fp32") as encoder:
        np.testing.assert_array_equal(found, encoder.encode(["a cat", "a dog", "a house"]))
    with pytest.raises(RingkasError, match="no text"):
        model.encode([{"image": []}], task_metadata=task)


def test_mteb_takes_it_for_an_encoder(demo_artifacts: Path) -> None:
    models = pytest.importorskip("mteb.models", reason="mteb has an environment of its own: mteb_offline.py")
    model = MtebEncoder(demo_artifacts / "onnx-fp32")
    assert isinstance(model, models.EncoderProtocol)
    assert model.mteb_model_meta.name == "ringkas/all-MiniLM-L6-v2-onnx-fp32"
    similarities = model.similarity(np.eye(2, 3), np.ones((1, 3)))
    np.testing.assert_allclose(similarities, np.full((2, 1), 3**-0.5), atol=1e-6)
