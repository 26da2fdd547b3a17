"""The facade: order, batches, prompts, truncation, threads, fewer dimensions and bits."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ringkas
from ringkas import RingkasError, load, load_reference_encoder, texts
from ringkas.runtimes.encoder import Encoder


@pytest.fixture(scope="module")
def encoder(demo_artifacts: Path) -> Encoder:
    return load(demo_artifacts / "onnx-fp32")


@pytest.fixture(scope="module")
def sample() -> list[str]:
    return [line for lines in texts.probe(["en", "ko"]).values() for line in lines]


@pytest.fixture(scope="module")
def prompted(shapes: Any, tiny_unigram: Any, make_checkpoint: Any, tmp_path_factory: Any) -> Encoder:
    shape = replace(
        shapes["bert"](tiny_unigram, num_hidden_layers=1),
        prompts={"query": "query: ", "passage": "passage: "},
    )
    return load_reference_encoder(make_checkpoint(tmp_path_factory.mktemp("prompted") / "model", shape))


def test_order_is_restored_whatever_the_batches(encoder: Encoder, sample: list[str]) -> None:
    one_by_one = np.stack([encoder.encode(text) for text in sample])
    for batch_tokens in (1, 64, 512, 100_000):
        together = encoder.encode(sample, batch_tokens=batch_tokens)
        np.testing.assert_allclose(together, one_by_one, atol=1e-6, err_msg=str(batch_tokens))
        assert np.abs(np.roll(one_by_one, 1, axis=0) - together).max() > 0.1  # another order would be seen


def test_single_text_has_one_axis(encoder: Encoder) -> None:
    assert encoder.encode("one").shape == (384,)
    assert encoder.encode(["one"]).shape == (1, 384)
    assert encoder.encode([]).shape == (0, 384)


def test_many_threads_get_what_one_gets(encoder: Encoder, sample: list[str]) -> None:
    alone = encoder.encode(sample)
    with ThreadPoolExecutor(8) as pool:
        for vectors in pool.map(lambda _: encoder.encode(sample), range(8)):
            np.testing.assert_allclose(vectors, alone, atol=1e-6)


@pytest.mark.parametrize("threads", [1, 2])
def test_thread_count_reaches_the_engine(demo_artifacts: Path, threads: int) -> None:
    with load(demo_artifacts / "onnx-fp32", threads=threads) as own:
        options = own.engine._session.get_session_options()  # type: ignore[attr-defined]
        assert options.intra_op_num_threads == threads


def test_long_text_is_cut_as_the_tokenizer_does(encoder: Encoder) -> None:
    ids = encoder.tokenizer.encode(["word " * 1000])[0]
    assert len(ids) == 256
    assert (ids[0], ids[-1]) == (101, 102)  # [CLS] and [SEP] stay
    np.testing.assert_allclose(encoder.encode("word " * 254), encoder.encode("word " * 20_000), atol=1e-6)


def test_prompts_are_put_before_the_text(prompted: Encoder) -> None:
    plain = prompted.encode(["query: a text", "passage: a text", "a text"])
    np.testing.assert_allclose(prompted.encode("a text", prompt="query"), plain[0], atol=1e-6)
    np.testing.assert_allclose(prompted.encode_query("a text"), plain[0], atol=1e-6)
    np.testing.assert_allclose(prompted.encode_document("a text"), plain[1], atol=1e-6)
    np.testing.assert_allclose(prompted.encode("a text"), plain[2], atol=1e-6)


def test_default_prompt_is_used_unless_the_empty_one_is_asked_for(prompted: Encoder) -> None:
    import msgspec

    spec = msgspec.structs.replace(prompted.spec, default_prompt_name="query")
    own = Encoder(spec, prompted.tokenizer, prompted.engine)
    np.testing.assert_allclose(own.encode("a text"), prompted.encode("a text", prompt="query"), atol=1e-6)
    np.testing.assert_allclose(own.encode("a text", prompt=""), prompted.encode("a text"), atol=1e-6)


def test_unknown_prompt_lists_those_that_exist(prompted: Encoder) -> None:
    with pytest.raises(RingkasError, match=r"no prompt named 'title'.*passage, query"):
        prompted.encode("a text", prompt="title")


def test_doubled_prompt_is_warned_of_once(prompted: Encoder) -> None:
    own = Encoder(prompted.spec, prompted.tokenizer, prompted.engine)
    with pytest.warns(UserWarning, match="already starts with the prompt 'query: '"):
        own.encode_query(["a text", "query: a text"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own.encode_query("query: a text")


def test_fewer_dimensions_are_normalised_again(encoder: Encoder, sample: list[str]) -> None:
    full, cut = encoder.encode(sample), encoder.encode(sample, dimensions=96)
    assert cut.shape == (len(sample), 96)
    np.testing.assert_allclose(np.linalg.norm(cut, axis=1), 1, atol=1e-6)
    expected = full[:, :96] / np.linalg.norm(full[:, :96], axis=1, keepdims=True)
    np.testing.assert_allclose(cut, expected, atol=1e-6)


def test_codes_of_the_same_ranges_can_be_compared(encoder: Encoder, sample: list[str]) -> None:
    vectors = encoder.encode(sample)
    ranges = np.stack([vectors.min(axis=0), vectors.max(axis=0)])
    codes = encoder.encode(sample, precision="int8")
    np.testing.assert_array_equal(encoder.encode(sample, precision="int8", ranges=ranges), codes)
    single = encoder.encode(sample[0], precision="int8", ranges=ranges)
    assert np.abs(single.astype(int) - codes[0]).max() <= 1  # another batch, another order of summing
    with pytest.raises(RingkasError, match=r"not \(2, 384\)"):
        encoder.encode(sample, precision="uint8", ranges=ranges[:, :10])


def test_what_cannot_be_coded_is_refused_before_it_is_encoded(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "encode_ids", None)
    with pytest.raises(RingkasError, match="Pass ranges="):
        encoder.encode("one text", precision="int8")
    with pytest.raises(RingkasError, match="no precision 'int7'"):
        encoder.encode(["one", "two"], precision="int7")


@pytest.mark.parametrize("dimensions", [0, 385])
def test_impossible_dimensions_are_refused(encoder: Encoder, dimensions: int) -> None:
    with pytest.raises(RingkasError, match="not between 1 and the model's 384"):
        encoder.encode("a text", dimensions=dimensions)


@pytest.mark.parametrize("bad", [[None], ["fine", 3], ["lone \ud800 surrogate"], [b"bytes"]])
def test_what_is_no_text_is_refused(encoder: Encoder, bad: Any) -> None:
    with pytest.raises(RingkasError, match=r"text \d"):
        encoder.encode(bad)


def test_an_engine_that_returns_nan_is_caught(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        encoder.engine, "_run", lambda batch: np.full((len(batch.input_ids), 384), np.nan, np.float32)
    )
    with pytest.raises(RingkasError, match="not finite"):
        encoder.encode("a text")


def test_sequence_longer_than_the_model_never_reaches_the_engine(encoder: Encoder) -> None:
    with pytest.raises(RingkasError, match="300 tokens is longer than the model's 256"):
        encoder.encode_ids([[101] * 300])


def test_public_names_are_there() -> None:
    for name in ringkas.__all__:
        assert getattr(ringkas, name) is not None
    with pytest.raises(AttributeError):
        _ = ringkas.nothing
