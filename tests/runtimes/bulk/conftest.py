"""A small artifact with its encoder, and an input with everything in it that a row may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import ringkas
from ringkas.artifact import Artifact
from ringkas.runtimes.encoder import Encoder


@pytest.fixture(scope="session")
def small_artifact(
    small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    """A random BERT of one layer, as ONNX; 32 tokens at most."""
    checkpoint = small_checkpoint(max_length=64, prompts={"query": "query: "})
    return ringkas.build(checkpoint, "onnx-fp32", tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def small_encoder(small_artifact: Artifact) -> Encoder:
    return ringkas.load(small_artifact, threads=1)


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """Real ones, of many lengths."""
    probe = [line for lines in ringkas.texts.probe().values() for line in lines]
    return [text[: 1 + 7 * (n % 23)] for n, text in enumerate(probe)]
