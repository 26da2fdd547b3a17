"""Golden values of published checkpoints, through the reference and through onnx-fp32."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ringkas import Artifact, build, load, load_reference_encoder
from ringkas.runtimes.encoder import Encoder

pytestmark = pytest.mark.hub

E5 = "intfloat/multilingual-e5-small"
SEA_LION = "aisingapore/SEA-LION-E5-Embedding-600M"

# "hello world" without a prompt; the golden values have six decimals.
E5_FIRST = [0.031317, 0.030939, -0.035117, -0.067274, 0.085084]
# The model card's three sentences with the prompt STS: similarity of 1-2, 1-3, 2-3; four decimals.
WEATHER = ["The weather is lovely today.", "อากาศวันนี้ดีมาก", "Dia berkendara ke stadion."]
SEA_LION_SIMILARITIES = [0.8594, 0.5534, 0.6343]


@pytest.fixture(scope="module", params=["reference", "onnx-fp32"])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Encoder]:
    def open_it(model: str) -> Encoder:
        if request.param == "reference":
            return load_reference_encoder(model)
        artifact: Artifact = build(model, request.param, Path(tmp_path_factory.mktemp("hub")))
        return load(artifact)

    return open_it


def test_multilingual_e5_small(opened: Callable[[str], Encoder]) -> None:
    with opened(E5) as encoder:
        assert encoder.spec.prompts == {"query": "query: ", "passage": "passage: "}
        vector = encoder.encode("hello world", prompt="")
    np.testing.assert_allclose(vector[:5], E5_FIRST, atol=2e-6)


def test_sea_lion_e5(opened: Callable[[str], Encoder]) -> None:
    with opened(SEA_LION) as encoder:
        assert (encoder.dimension, encoder.spec.max_length) == (1024, 512)
        vectors = encoder.encode(WEATHER, prompt="STS")
    found = (vectors @ vectors.T)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(found, SEA_LION_SIMILARITIES, atol=2e-4)
