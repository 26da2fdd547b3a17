"""A worker gives an engine the same work however it is asked: the bare texts, in batches of its own size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ringkas import build_all, open_checkpoint
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Engine, Vectors
from ringkas.runtimes.measure import worker_process as measure_worker
from ringkas.runtimes.measure.bench import Lineup, bench
from ringkas.runtimes.measure.cases import OFFLINE
from ringkas.runtimes.measure.rounds import Procedure
from ringkas.tokens import TextTokenizer, TokenBatch

TEXTS = ("one two three", "and a few words more than the three that came before them") * 30
REQUEST = {"each": False, "seconds": 0.0, "rate": 50.0, "seed": 0}


class Recorder(Engine):
    """Keeps the batches that it was given."""

    batch_tokens = 100_000  # as a GPU takes them

    def __init__(self, dimension: int, max_length: int) -> None:
        super().__init__(dimension, max_length)
        self.given: list[TokenBatch] = []

    def _run(self, batch: TokenBatch) -> Vectors:
        self.given.append(batch)
        return np.ones((len(batch.input_ids), self.dimension), np.float32)

    def rows(self) -> set[tuple[int, ...]]:
        """The token ids of all texts it was given."""
        return {
            tuple(ids[mask == 1].tolist())
            for batch in self.given
            for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
        }


@pytest.fixture(scope="module")
def model(small_checkpoint: Callable[..., Path]) -> Path:
    """A checkpoint that puts a prompt before every text unless it is told not to."""
    folder = small_checkpoint(prompts={"query": "words that come first: "})
    settings = {"prompts": {"query": "words that come first: "}, "default_prompt_name": "query"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings), "utf-8")
    return folder


@pytest.fixture
def encoder(model: Path) -> Encoder:
    spec = open_checkpoint(model).spec
    assert spec.default_prompt_name == "query"
    return Encoder(spec, TextTokenizer(model, spec), Recorder(spec.dimension, spec.max_length))


@pytest.mark.parametrize("ask", ["warm_up", "time", "encode", "serve"])
def test_no_text_gets_the_default_prompt(encoder: Encoder, ask: str) -> None:
    request = {**REQUEST, "seconds": 0.5 if ask == "serve" else 0.0}
    measure_worker._ANSWERS[ask](encoder, TEXTS, request)
    assert isinstance(encoder.engine, Recorder)
    assert encoder.engine.rows() == set(map(tuple, encoder.tokenizer.encode(TEXTS)))


def test_whole_calls_and_their_parts_have_the_same_batches(encoder: Encoder) -> None:
    answer = measure_worker.time_calls(encoder, TEXTS, REQUEST)
    assert isinstance(encoder.engine, Recorder)
    shapes = [batch.input_ids.shape for batch in encoder.engine.given]
    assert len(shapes) == 2 * len(answer["samples"])
    assert {rows for rows, _ in shapes} == {len(TEXTS)}


def test_an_artifact_with_a_default_prompt_holds_its_floor(model: Path) -> None:
    (built,) = build_all(open_checkpoint(model), ["onnx-fp32"], model.parent / "dist")
    plan = Procedure(rounds=1, seconds=0.01, threads=1, scenarios=(OFFLINE,))
    for reference in (None, str(model)):
        found = bench(Lineup((built.artifact.path,), reference, texts=TEXTS[:2]), plan)
        assert found.rows[-1].fidelity is not None
        assert found.rows[-1].fidelity.passed
