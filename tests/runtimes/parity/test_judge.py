"""Parity: honest vectors pass, every sabotage fails, and what measures nothing is an error."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import spearmanr

from ringkas.errors import ArtifactError
from ringkas.runtimes.parity.floors import FLOORS, Floor
from ringkas.runtimes.parity.judge import (
    Judged,
    ParityReport,
    Sample,
    cosine,
    judge,
    rank_agreement,
    spearman,
)

Vectors = npt.NDArray[np.float32]
SUBJECT = Judged("onnx-fp32", "onnxruntime", "model", FLOORS["fp32"], {"numpy": "2"})
COUNT = 60


def normalised(values: npt.NDArray[np.floating]) -> Vectors:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def vectors() -> Vectors:
    return normalised(np.random.default_rng(4).standard_normal((COUNT, 32)))


@pytest.fixture
def samples() -> list[Sample]:
    """The first 40 English, the others Korean."""
    return [Sample("en" if n < 40 else "ko", f"text {n}", [0, n, 2], [0, n, 2]) for n in range(COUNT)]


def noisy(vectors: Vectors, size: float) -> Vectors:
    noise = np.random.default_rng(9).standard_normal(vectors.shape)
    return normalised(vectors + size * noise)


# What passes


def test_identical_vectors_pass(samples: list[Sample], vectors: Vectors) -> None:
    report = judge(SUBJECT, samples, vectors, vectors.copy(), skipped=3)
    assert report.passed
    assert report.failures == ()
    assert (report.cosine_min, report.cosine_mean, report.top10_overlap) == (1.0, 1.0, 1.0)
    assert report.spearman == pytest.approx(1.0)
    assert (report.texts, report.skipped, report.ranked_texts) == (COUNT, 3, COUNT)
    assert [(group.group, group.texts) for group in report.groups] == [("en", 40), ("ko", 20)]
    assert (report.target, report.engine, report.reference) == ("onnx-fp32", "onnxruntime", "model")


def test_length_of_vectors_does_not_count(samples: list[Sample], vectors: Vectors) -> None:
    report = judge(SUBJECT, samples, vectors, 3 * vectors)
    assert report.cosine_min == pytest.approx(1.0)


def test_group_numbers_equal_a_plain_computation(samples: list[Sample], vectors: Vectors) -> None:
    candidate = noisy(vectors, 0.05)
    report = judge(SUBJECT, samples, vectors, candidate)
    mean = vectors.astype(np.float64).mean(axis=0)
    for group, rows in zip(report.groups, (range(40), range(40, 60)), strict=True):
        plain = [one_cosine(vectors[n], candidate[n]) for n in rows]
        centred = [one_cosine(vectors[n] - mean, candidate[n] - mean) for n in rows]
        assert group.cosine_min == pytest.approx(min(plain), abs=1e-12)
        assert group.cosine_mean == pytest.approx(sum(plain) / len(plain), abs=1e-12)
        assert group.cosine_p1 == pytest.approx(np.quantile(plain, 0.01), abs=1e-12)
        assert group.centred_min == pytest.approx(min(centred), abs=1e-12)
        assert group.centred_mean == pytest.approx(sum(centred) / len(centred), abs=1e-12)
        assert group.worst_text == f"text {rows[plain.index(min(plain))]}"


def one_cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    x, y = [float(v) for v in np.asarray(a)], [float(v) for v in np.asarray(b)]
    dot = sum(p * q for p, q in zip(x, y, strict=True))
    return float(dot / (sum(p * p for p in x) * sum(q * q for q in y)) ** 0.5)


# What fails


def flip(vectors: Vectors) -> Vectors:
    vectors[17] *= -1
    return vectors


def rotate(vectors: Vectors) -> Vectors:
    vectors[17] = np.roll(vectors[17], 1)
    return vectors


def tilt(vectors: Vectors) -> Vectors:
    """Cosine 0.9999, just under the floor of 0.99999."""
    across = np.zeros(32)
    across[:2] = -vectors[17, 1], vectors[17, 0]
    across /= np.linalg.norm(across)
    vectors[17] = 0.9999 * vectors[17] + (1 - 0.9999**2) ** 0.5 * across
    return vectors


def swap(vectors: Vectors) -> Vectors:
    vectors[[17, 18]] = vectors[[18, 17]]
    return vectors


def blank(vectors: Vectors) -> Vectors:
    vectors[17] = 0
    return vectors


@pytest.mark.parametrize("sabotage", [flip, rotate, tilt, swap, blank])
def test_one_wrong_vector_fails_and_is_named(
    samples: list[Sample], vectors: Vectors, sabotage: Callable[[Vectors], Vectors]
) -> None:
    report = judge(SUBJECT, samples, vectors, sabotage(vectors.copy()))
    assert not report.passed
    assert any(line.startswith("en: cosine minimum") for line in report.failures)
    assert not any(line.startswith("ko") for line in report.failures)
    assert report.groups[0].worst_text in ("text 17", "text 18")


@pytest.mark.parametrize("ids", [[0, 17, 3], [0, 17], [0, 17, 2, 1], []])
def test_one_other_token_id_fails_though_the_vectors_agree(
    samples: list[Sample], vectors: Vectors, ids: list[int]
) -> None:
    samples[17] = replace(samples[17], candidate_ids=ids)
    report = judge(SUBJECT, samples, vectors, vectors)
    assert not report.passed
    assert report.failures == ("en: 1 of 40 texts get other token ids",)


def test_ids_are_compared_by_value(samples: list[Sample], vectors: Vectors) -> None:
    mixed = [replace(sample, reference_ids=tuple(sample.reference_ids)) for sample in samples]
    assert judge(SUBJECT, mixed, vectors, vectors).passed


def test_mean_is_judged_by_language(samples: list[Sample], vectors: Vectors) -> None:
    floor = Floor(cosine_min=-1.0, cosine_mean=0.999)
    candidate = vectors.copy()
    candidate[40:] = noisy(vectors, 0.03)[40:]
    report = judge(replace(SUBJECT, floor=floor), samples, vectors, candidate)
    assert report.cosine_mean < 0.999
    assert [line.split(" 0.")[0] for line in report.failures] == ["ko: cosine mean"]


def test_neighbours_are_judged(samples: list[Sample], vectors: Vectors) -> None:
    candidate = noisy(vectors, 0.05)
    strict, lax = (Floor(-1.0, -1.0, share) for share in (1.0, 0.5))
    assert judge(replace(SUBJECT, floor=lax), samples, vectors, candidate).passed
    report = judge(replace(SUBJECT, floor=strict), samples, vectors, candidate)
    assert [line.split(" 0.")[0] for line in report.failures] == ["top-10 overlap"]


@pytest.mark.parametrize("precision", FLOORS)
def test_every_floor_catches_what_is_below_it(
    samples: list[Sample], vectors: Vectors, precision: str
) -> None:
    floor = FLOORS[precision]
    below = floor.cosine_min - 1e-4
    across = np.roll(vectors, 1, axis=0)
    across -= (across * vectors).sum(axis=1, keepdims=True) * vectors
    candidate = below * vectors + (1 - below**2) ** 0.5 * normalised(across)
    assert not judge(replace(SUBJECT, floor=floor), samples, vectors, candidate).passed


# What measures nothing


@pytest.mark.parametrize("side", ["reference", "candidate"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_an_error(
    samples: list[Sample], vectors: Vectors, side: str, value: float
) -> None:
    broken = vectors.copy()
    broken[3, 3] = value
    pair = (broken, vectors) if side == "reference" else (vectors, broken)
    with pytest.raises(ArtifactError, match="not finite"):
        judge(SUBJECT, samples, *pair)


def test_zero_texts_are_an_error() -> None:
    with pytest.raises(ArtifactError, match="there are 0 texts to compare"):
        judge(SUBJECT, [], np.empty((0, 32), np.float32), np.empty((0, 32), np.float32))


@pytest.mark.parametrize(
    ("reference", "candidate"),
    [
        ((60, 32), (59, 32)),
        ((60, 32), (60, 31)),
        ((60, 32), (60,)),
        ((59, 32), (59, 32)),
        ((0, 32), (0, 32)),
    ],
)
def test_other_shapes_are_an_error(
    samples: list[Sample], reference: tuple[int, ...], candidate: tuple[int, ...]
) -> None:
    with pytest.raises(ArtifactError, match="60 texts gave vectors of shape"):
        judge(SUBJECT, samples, np.ones(reference, np.float32), np.ones(candidate, np.float32))


# The parts


def test_cosine_of_zero_vectors() -> None:
    a, b = np.array([[0, 0], [0, 0], [1, 0], [1e-20, 0]]), np.array([[0, 0], [1, 0], [-1, 0], [2e-20, 0]])
    np.testing.assert_allclose(cosine(a, b), [1.0, 0.0, -1.0, 1.0])


@pytest.mark.parametrize("count", [3, 4, 11, 12, 80])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.2, 5.0])
def test_rank_agreement_equals_a_plain_computation(count: int, noise: float) -> None:
    reference = normalised(np.random.default_rng(count).standard_normal((count, 16)))
    candidate = noisy(reference, noise)
    overlap, correlation = rank_agreement(reference, candidate)
    expected_overlap, expected_correlation = plainly(reference, candidate)
    assert overlap == pytest.approx(expected_overlap, abs=1e-12)
    assert correlation == pytest.approx(expected_correlation, abs=1e-9)


def plainly(reference: Vectors, candidate: Vectors) -> tuple[float, float]:
    count, kept, total = len(reference), 0, 0
    a = [[one_cosine(x, y) for y in reference] for x in reference]
    b = [[one_cosine(x, y) for y in candidate] for x in candidate]
    for row in range(count):
        others = [other for other in range(count) if other != row]
        tenth = sorted((a[row][other] for other in others), reverse=True)[:10][-1]
        nearest = sorted(others, key=lambda other: -b[row][other])[:10]
        kept += sum(a[row][other] >= tenth - 1e-5 for other in nearest)
        total += len(nearest)
    pairs = [(row, other) for row in range(count) for other in range(row + 1, count)]
    ranks = spearmanr([a[i][j] for i, j in pairs], [b[i][j] for i, j in pairs])
    return kept / total, float(ranks.statistic)


def test_neighbours_that_tie_may_change_places() -> None:
    # Twenty copies of each: any ten of a text's nineteen twins are its nearest.
    apart = np.repeat(np.eye(4, 16, dtype=np.float32), 20, axis=0)
    assert rank_agreement(apart, noisy(apart, 1e-4))[0] == 1.0
    assert rank_agreement(noisy(apart, 1e-4), apart)[0] == 1.0  # nearly a tie is one too
    assert rank_agreement(noisy(apart, 0.1), apart)[0] < 1.0
    other = apart.copy()
    other[:20] = apart[20:40]  # now they sit with twins that are not theirs
    assert rank_agreement(apart, other)[0] < 0.9


def test_spearman_of_ties_equals_scipy() -> None:
    apart = np.repeat(np.eye(4, 16, dtype=np.float32), 5, axis=0)
    candidate = noisy(apart, 0.05)
    assert rank_agreement(apart, candidate)[1] == pytest.approx(plainly(apart, candidate)[1], abs=1e-9)


def test_spearman_is_that_of_scipy() -> None:
    rng = np.random.default_rng(3)
    for levels in (4, 1000):  # with many ties, and hardly any
        a = rng.integers(0, levels, 300)
        b = a + rng.integers(0, levels, 300)
        assert spearman(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)


def test_equal_similarities_rank_nothing(samples: list[Sample], vectors: Vectors) -> None:
    assert spearman(np.ones(5), np.arange(5)) == 0.0
    constant = np.zeros_like(vectors)
    constant[:, 0] = 1
    report = judge(SUBJECT, samples, vectors, constant)
    assert report.spearman == 0.0
    assert msgspec.json.decode(msgspec.json.encode(report), type=ParityReport) == report


def test_ranks_are_taken_from_texts_all_over(monkeypatch: pytest.MonkeyPatch, vectors: Vectors) -> None:
    monkeypatch.setattr("ringkas.runtimes.parity.judge.MAX_RANKED", 20)
    samples = [Sample("en", "", [], [])] * COUNT
    candidate = vectors.copy()
    candidate[-10:] = -candidate[-10:]
    report = judge(SUBJECT, samples, vectors, candidate)
    assert report.ranked_texts == 20
    assert report.top10_overlap < 1.0  # the last ones were among them
