"""Many batches side by side: the vectors of one after another, in order, whatever happens on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ringkas import build_all, load, open_checkpoint
from ringkas.errors import ArtifactError
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.engines import onnxruntime_engine
from ringkas.runtimes.engines.onnxruntime_engine import OrtEngine
from ringkas.tokens import TokenBatch, pad

TEXTS = [f"text {number} " + "of some words " * (number % 9) for number in range(60)]


@pytest.fixture(scope="module")
def artifact(small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    (built,) = build_all(open_checkpoint(small_checkpoint()), ["onnx-fp32"], tmp_path_factory.mktemp("dist"))
    return built.artifact.path


@pytest.fixture
def encoder(artifact: Path) -> Iterator[Encoder]:
    with load(artifact, threads=3) as opened:
        yield opened


def engine_of(encoder: Encoder) -> OrtEngine:
    assert isinstance(encoder.engine, OrtEngine)
    return encoder.engine


def batches(encoder: Encoder, count: int = 20) -> list[TokenBatch]:
    ids = encoder.tokenizer.encode(TEXTS)
    return [pad(ids[3 * at : 3 * at + 3], encoder.tokenizer.pad_id) for at in range(count)]


def test_side_by_side_is_one_after_another(encoder: Encoder) -> None:
    engine = engine_of(encoder)
    expected = [engine.run(batch) for batch in batches(encoder)]
    engine.prepare_many()
    found = list(engine.run_many(batches(encoder)))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(found[0] - expected[1]).max() > 1e-3  # another order would be seen


def test_a_long_call_opens_the_other_session_and_a_short_one_does_not(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(encoder)
    before = encoder.encode(TEXTS)
    assert engine._narrow is None
    monkeypatch.setattr(onnxruntime_engine, "_MANY_TOKENS", 100)
    np.testing.assert_allclose(encoder.encode(TEXTS, batch_tokens=64), before, atol=1e-6)
    assert engine._narrow is not None


@pytest.mark.parametrize("threads", [1, 3])
def test_a_large_model_and_one_thread_have_one_session(
    threads: int, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime_engine, "_LARGEST_TWICE", 1 if threads > 1 else 1 << 40)
    with load(artifact, threads=threads) as encoder:
        engine = engine_of(encoder)
        engine.prepare_many()
        assert engine._narrow is None
        assert len(list(engine.run_many(batches(encoder)))) == 20


def test_a_batch_that_fails_ends_the_run_and_leaves_nothing_behind(encoder: Encoder) -> None:
    engine = engine_of(encoder)
    engine.prepare_many()
    bad = TokenBatch(np.full((1, 4), 10**9), np.ones((1, 4), np.int64))
    found: list[Vectors] = []
    with pytest.raises(ArtifactError, match="could not run a batch"):
        found.extend(engine.run_many([*batches(encoder, 6), bad, *batches(encoder, 6)]))
    assert len(found) == 6
    assert not [one for one in threading.enumerate() if one.name.startswith("ringkas-batch")]
    assert len(list(engine.run_many(batches(encoder)))) == 20


def test_a_run_that_is_left_leaves_no_thread(encoder: Encoder) -> None:
    engine = engine_of(encoder)
    engine.prepare_many()
    running = engine.run_many(batches(encoder))
    next(running)
    del running
    assert not [one for one in threading.enumerate() if one.name.startswith("ringkas-batch")]


def test_closed_in_the_middle(encoder: Encoder) -> None:
    engine = engine_of(encoder)
    engine.prepare_many()
    running = engine.run_many(batches(encoder))
    next(running)
    engine.close()
    with pytest.raises(ArtifactError, match="closed"):
        list(running)
