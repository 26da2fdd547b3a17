"""Fewer dimensions and fewer bits, held against sentence-transformers' own functions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from ringkas.errors import TargetError
from ringkas.runtimes.vectors import PRECISIONS, quantize, truncate


def vectors(rows: int = 200, dimension: int = 384) -> npt.NDArray[np.float32]:
    values = np.random.default_rng(11).standard_normal((rows, dimension)).astype(np.float32)
    values[0, :8] = 0  # neither sign
    return values / np.linalg.norm(values, axis=1, keepdims=True)


@pytest.mark.parametrize("dimension", [384, 100])
@pytest.mark.parametrize("precision", ["float32", "int8", "uint8", "binary", "ubinary"])
def test_quantize_equals_sentence_transformers(precision: str, dimension: int) -> None:
    peer = pytest.importorskip("sentence_transformers.util.quantization")
    own, expected = vectors(dimension=dimension), vectors(dimension=dimension)
    found = quantize(own, precision)
    expected = peer.quantize_embeddings(expected, precision)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(own, vectors(dimension=dimension))  # the input is as it was


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_given_ranges_equal_sentence_transformers(precision: str, kind: type[np.floating]) -> None:
    peer = pytest.importorskip("sentence_transformers.util.quantization")
    corpus, queries = vectors(500), vectors(3) * 2  # some fall outside of the ranges
    ranges = np.stack([corpus.min(axis=0), corpus.max(axis=0)]).astype(kind)
    np.testing.assert_array_equal(
        quantize(queries, precision, ranges), peer.quantize_embeddings(queries, precision, ranges=ranges)
    )


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_constant_dimension_equals_sentence_transformers(precision: str) -> None:
    peer = pytest.importorskip("sentence_transformers.util.quantization")
    constant = vectors()
    constant[:, 3] = 0.25
    np.testing.assert_array_equal(
        quantize(constant, precision), peer.quantize_embeddings(constant, precision)
    )


def test_value_beside_a_range_of_no_width_equals_sentence_transformers() -> None:
    peer = pytest.importorskip("sentence_transformers.util.quantization")
    ranges = np.full((2, 384), 0.01, dtype=np.float32)
    np.testing.assert_array_equal(
        quantize(vectors(), "uint8", ranges), peer.quantize_embeddings(vectors(), "uint8", ranges=ranges)
    )


@pytest.mark.parametrize("precision", ["binary", "ubinary"])
def test_bits_are_the_signs(precision: str) -> None:
    packed = quantize(vectors(), precision)
    unsigned = packed.astype(np.int16) + 128 if precision == "binary" else packed
    np.testing.assert_array_equal(np.unpackbits(unsigned.astype(np.uint8), axis=1), vectors() > 0)


@pytest.mark.parametrize("precision", ["int8", "uint8"])
def test_one_vector_has_no_range(precision: str) -> None:
    with pytest.raises(TargetError, match="cannot be read from one vector"):
        quantize(vectors()[:1], precision)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_vectors_stay_none(precision: str) -> None:
    peer = pytest.importorskip("sentence_transformers.util.quantization")
    none = vectors()[:0]
    ranges = np.stack([vectors().min(axis=0), vectors().max(axis=0)])
    expected = peer.quantize_embeddings(none, precision, ranges=ranges)
    for found in (quantize(none, precision), quantize(none, precision, ranges)):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)


def test_unknown_precision_lists_those_that_exist() -> None:
    with pytest.raises(TargetError, match="'int4'") as caught:
        quantize(vectors(), "int4")
    assert all(precision in caught.value.fix for precision in PRECISIONS)


@pytest.mark.parametrize("dimensions", [1, 64, 383, 384])
def test_truncated_vectors_are_normalised_again(dimensions: int) -> None:
    found = truncate(vectors(), dimensions, normalize=True)
    exact = vectors()[:, :dimensions].astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    expected = np.divide(exact, lengths, out=np.zeros_like(exact), where=lengths > 0)
    assert found.dtype == np.float32
    assert found.flags["C_CONTIGUOUS"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_vectors_without_length_one_are_only_cut() -> None:
    np.testing.assert_array_equal(truncate(vectors() * 3, 64, normalize=False), (vectors() * 3)[:, :64])


@pytest.mark.parametrize("dimensions", [-1, 0, 385])
def test_impossible_dimensions_are_refused(dimensions: int) -> None:
    with pytest.raises(TargetError, match="between 1 and the model's 384"):
        truncate(vectors(), dimensions, normalize=True)
