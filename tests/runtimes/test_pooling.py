"""Pooling in NumPy equals the reference's and sentence-transformers', mode by mode."""

from __future__ import annotations

import numpy as np
import pytest

from ringkas.runtimes.pooling import pool
from ringkas.spec import POOLING_MODES, EncodingSpec, Pooling

LENGTHS = (12, 7, 1, 12, 3)
HIDDEN = 16
COMBINATIONS = [(mode,) for mode in POOLING_MODES] + [("cls", "mean"), POOLING_MODES]


def spec(modes: tuple[str, ...], normalize: bool = False) -> EncodingSpec:
    return EncodingSpec(
        family="bert",
        max_length=12,
        dimension=HIDDEN * len(modes),
        pooling=Pooling(modes),
        normalize=normalize,
    )


@pytest.fixture
def hidden() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((len(LENGTHS), 12, HIDDEN)).astype(np.float32)


@pytest.fixture
def mask() -> np.ndarray:
    """Padding on the right."""
    return (np.arange(12) < np.array(LENGTHS)[:, None]).astype(np.int64)


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_equals_the_reference(mode: str, hidden: np.ndarray, mask: np.ndarray) -> None:
    torch = pytest.importorskip("torch")
    from ringkas.runtimes.reference import POOLERS

    expected = POOLERS[mode](torch.from_numpy(hidden), torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(pool(hidden, mask, spec((mode,))), expected, atol=1e-6)


@pytest.mark.parametrize("modes", COMBINATIONS, ids="+".join)
@pytest.mark.parametrize("prompt_length", [0, 2])
def test_equals_sentence_transformers(
    modes: tuple[str, ...], prompt_length: int, hidden: np.ndarray, mask: np.ndarray
) -> None:
    torch = pytest.importorskip("torch")
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    rows = np.array(LENGTHS) > prompt_length  # a text is never shorter than its prompt
    hidden, mask = hidden[rows], mask[rows]
    features = {
        "token_embeddings": torch.from_numpy(hidden),
        "attention_mask": torch.from_numpy(mask),
        "prompt_length": prompt_length,
    }
    peer = modules.Pooling(HIDDEN, modes, include_prompt=False)
    expected = peer(features)["sentence_embedding"].numpy()
    without_prompt = mask.copy()
    without_prompt[:, :prompt_length] = 0
    np.testing.assert_allclose(pool(hidden, without_prompt, spec(modes)), expected, atol=1e-6)


@pytest.mark.parametrize("mode", POOLING_MODES)
def test_padding_plays_no_part(mode: str, hidden: np.ndarray, mask: np.ndarray) -> None:
    disturbed = np.where(mask[..., None] == 1, hidden, np.float32(1000))
    np.testing.assert_array_equal(pool(disturbed, mask, spec((mode,))), pool(hidden, mask, spec((mode,))))


@pytest.mark.parametrize("mode", [mode for mode in POOLING_MODES if mode != "cls"])
def test_ignoring_the_mask_would_be_seen(mode: str, hidden: np.ndarray, mask: np.ndarray) -> None:
    wrong = pool(hidden, np.ones_like(mask), spec((mode,)))
    assert np.abs(wrong - pool(hidden, mask, spec((mode,)))).max() > 0.1


def test_normalised_when_the_checkpoint_says_so(hidden: np.ndarray, mask: np.ndarray) -> None:
    plain, scaled = (pool(hidden, mask, spec(("mean",), normalize)) for normalize in (False, True))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-6)
