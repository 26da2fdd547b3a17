"""Packed sequences give the padded reference's vectors, for every family; on the CPU, so without the graph.

The graph is emulated: a bucket's step is run again on the same inputs in place, as a replay would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringkas import load, load_reference_encoder, open_checkpoint
from ringkas.errors import ArtifactError, CheckpointError
from ringkas.runtimes.packing import pack
from ringkas.tokens import TokenBatch, pad

torch = pytest.importorskip("torch")

from ringkas.runtimes.engines import pytorch_packed  # noqa: E402
from ringkas.runtimes.engines.pytorch_packed import ATTENTION, Bounds, PackedRunner, attend  # noqa: E402
from ringkas.runtimes.reference import load_reference  # noqa: E402

FAMILIES = ("bert", "xlm-roberta", "modernbert")
# Longer than ModernBERT's window of 128; a text of one token; more texts than a power of two.
LENGTHS = (200, 7, 1, 33, 16)


@pytest.fixture(scope="module")
def checkpoints(
    make_checkpoint: Callable[..., Path],
    shapes: dict[str, Callable[..., Any]],
    tiny_unigram: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    def make(family: str, **changes: Any) -> Path:
        sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
        layers = 4 if family == "modernbert" else 2  # of which one sees everything
        shape = shapes[family](tiny_unigram, num_hidden_layers=layers, **sizes)
        return make_checkpoint(tmp_path_factory.mktemp(family) / "model", replace(shape, **changes))

    return make


def batch_of(lengths: tuple[int, ...] = LENGTHS, seed: int = 3) -> TokenBatch:
    chance = np.random.default_rng(seed)
    return pad([chance.integers(5, 200, length).tolist() for length in lengths], 1)


def runner_of(folder: Path) -> PackedRunner:
    pytorch_packed.register()
    checkpoint = open_checkpoint(folder)
    reference = load_reference(checkpoint, attention=ATTENTION)
    return PackedRunner(reference, checkpoint.family.position_offset(checkpoint.config))


def expected(folder: Path, batch: TokenBatch) -> tuple[np.ndarray, np.ndarray]:
    reference = load_reference(open_checkpoint(folder))
    with torch.inference_mode():
        hidden, vectors = reference(*map(torch.from_numpy, (batch.input_ids, batch.attention_mask)))
    return hidden.numpy(), vectors.numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_packed_vectors_are_the_padded_reference_s(family: str, checkpoints: Callable[..., Path]) -> None:
    folder, batch = checkpoints(family), batch_of()
    hidden, vectors = expected(folder, batch)
    runner = runner_of(folder)
    np.testing.assert_allclose(runner.start(batch)(), vectors, atol=2e-6)
    present = batch.attention_mask.astype(bool)
    found = runner.token_vectors(batch)
    np.testing.assert_allclose(found[present], hidden[present], atol=2e-5)
    assert not found[~present].any()


@pytest.mark.parametrize("mode", ["cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len"])
def test_every_pooling_sees_its_own_tokens(mode: str, checkpoints: Callable[..., Path]) -> None:
    names = {"cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}
    names |= {"mean_sqrt_len": "pooling_mode_mean_sqrt_len_tokens"}
    folder = checkpoints("bert", pooling={names.get(mode, f"pooling_mode_{mode}"): True})
    batch = batch_of()
    np.testing.assert_allclose(runner_of(folder).start(batch)(), expected(folder, batch)[1], atol=2e-6)


def test_a_bucket_s_filling_changes_nothing(checkpoints: Callable[..., Path]) -> None:
    """Each text alone, in its own bucket, gives what it gave among others."""
    folder, batch = checkpoints("bert"), batch_of()
    runner = runner_of(folder)
    together = runner.start(batch)()
    for row, length in enumerate(LENGTHS):
        alone = TokenBatch(batch.input_ids[row : row + 1, :length], np.ones((1, length), dtype=np.int64))
        np.testing.assert_allclose(runner.start(alone)()[0], together[row], atol=2e-6)


@pytest.mark.parametrize("sabotage", ["positions", "bounds", "window"])
def test_a_wrong_packing_is_seen(
    sabotage: str, checkpoints: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    family = "modernbert" if sabotage == "window" else "xlm-roberta"
    folder, batch = checkpoints(family), batch_of()
    runner = runner_of(folder)
    if sabotage == "positions":
        runner._first_position += 1
    elif sabotage == "bounds":
        monkeypatch.setattr(pytorch_packed, "pack", _one_text_too_long)
    else:
        plain = pytorch_packed._text_by_text
        monkeypatch.setattr(
            pytorch_packed, "_text_by_text", lambda heads, bounds, _: plain(heads, bounds, {})
        )
    assert np.abs(runner.start(batch)() - expected(folder, batch)[1]).max() > 1e-4


def _one_text_too_long(batch: TokenBatch, first_position: int) -> Any:
    packed = pack(batch, first_position)
    bounds = packed.bounds.copy()
    bounds[1] += 3
    return replace(packed, bounds=bounds)


def test_inputs_in_place_serve_one_batch_after_another(checkpoints: Callable[..., Path]) -> None:
    """As a captured graph does: the same step over the same memory, filled anew."""
    runner = runner_of(checkpoints("bert"))
    bucket = pack(batch_of(), 0).bucket
    row = torch.zeros(2 * bucket.tokens + bucket.texts + 1, dtype=torch.int32)
    emulated = pytorch_packed._Captured(row, lambda: runner._step(row, bucket))
    for seed in (3, 4):
        batch = batch_of(seed=seed)
        with torch.inference_mode():
            emulated.row.copy_(torch.from_numpy(pack(batch, 0).filled(bucket)))
            emulated.replay()
        np.testing.assert_array_equal(emulated.vectors[: len(LENGTHS)].numpy(), runner.start(batch)())


def test_attention_that_cannot_be_packed_is_refused() -> None:
    states = torch.zeros(1, 2, 4, 8)
    bounds = Bounds(torch.tensor([0, 4], dtype=torch.int32), 4)
    for given in ({}, {"bounds": bounds, "softcap": 30.0}, {"bounds": bounds, "s_aux": states}):
        with pytest.raises(CheckpointError, match=r"cannot be packed.*float32"):
            attend(torch.nn.Identity(), states, states, states, None, **given)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 3])
def test_grouped_causal_and_windowed_attention(causal: bool, window: int | None) -> None:
    chance = torch.Generator().manual_seed(1)
    query = torch.randn(1, 4, 10, 8, generator=chance)
    key, value = (torch.randn(1, 2, 10, 8, generator=chance) for _ in range(2))
    module = torch.nn.Identity()
    module.is_causal = causal
    bounds = Bounds(torch.tensor([0, 6, 6, 10], dtype=torch.int32), 8)
    found, _ = attend(module, query, key, value, None, bounds=bounds, sliding_window=window, scaling=0.5)
    place = torch.arange(10)
    distance = place[None, :] - place[:, None]
    text = (place >= 6).long()
    seen = text[None, :] == text[:, None]
    if causal:
        seen &= distance <= 0
    if window:
        seen &= distance.abs() < window
    scores = 0.5 * query @ key.repeat_interleave(2, 1).transpose(2, 3)
    weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
    np.testing.assert_allclose(found, (weights @ value.repeat_interleave(2, 1)).transpose(1, 2), atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_artifact_in_16_bits(demo_artifacts: Path, dtype: str) -> None:
    texts = ["a short one", "", "a longer text, which has some more words than the others have", "word " * 90]
    with (
        load(demo_artifacts / "pytorch-fp32") as reference,
        load(demo_artifacts / "pytorch-fp32", device="cpu", dtype=dtype) as encoder,
    ):
        cosines = (reference.encode(texts) * encoder.encode(texts, batch_tokens=64)).sum(axis=1)
        assert cosines.min() > 0.999
        assert np.abs(cosines - 1).max() > 1e-7  # it is another precision
        np.testing.assert_array_equal(encoder.encode(texts[0]), encoder.encode([texts[0]])[0])


def test_float32_is_the_reference_itself(demo_artifacts: Path) -> None:
    with (
        load(demo_artifacts / "pytorch-fp32") as plain,
        load(demo_artifacts / "pytorch-fp32", device="cpu", dtype="float32") as named,
    ):
        np.testing.assert_array_equal(plain.encode("one text"), named.encode("one text"))


def test_a_dtype_is_refused_where_it_cannot_be_honoured(demo_artifacts: Path) -> None:
    with pytest.raises(ArtifactError, match=r"cannot compute an encoder in 'int8'.*float32, bfloat16"):
        load(demo_artifacts / "pytorch-fp32", dtype="int8")
    with pytest.raises(ArtifactError, match=r"cannot be computed in float16: .*onnxruntime"):
        load(demo_artifacts / "onnx-fp32", dtype="float16")


def test_the_reference_of_a_checkpoint_in_16_bits() -> None:
    with load_reference_encoder("demo", device="cpu", dtype="bfloat16") as encoder:
        vectors = encoder.encode(["one", "two and three"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
