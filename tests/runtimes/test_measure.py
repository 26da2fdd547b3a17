"""Measurement: what it reports is what happened, and a slow or broken engine shows."""

from __future__ import annotations

import math
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ringkas import RingkasError, load
from ringkas.runtimes import measure_worker
from ringkas.runtimes.bench import bench
from ringkas.runtimes.ceiling import linear_operations, measure_ceiling
from ringkas.runtimes.measure import Plan, Subject, interval, measure, offline_case, single_text_cases

QUICK = Plan(rounds=2, seconds=0.05, threads=1)
TEXTS = ["one two", "a sentence of some ten words that says next to nothing", "word " * 100]


def test_interval_holds_the_median_of_the_population() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(300):
        found = interval(rng.exponential(1.0, 101).tolist())
        held += found.low <= 1e3 * np.log(2) <= found.high
    assert 0.90 < held / 300 < 0.99


def test_interval_of_known_samples() -> None:
    found = interval([0.001 * value for value in range(1, 102)])
    assert found.samples == 101
    # The value of rank r is r milliseconds. Half, 90% and 99% of the way from rank 1 to rank 101:
    assert (found.median, found.p90, found.p99) == pytest.approx((51, 91, 100))
    # The median of the population is below rank 41 or above rank 62 in less than 5% of samples.
    assert (found.low, found.high) == pytest.approx((41, 62))
    assert 0.95 < sum(math.comb(101, below) for below in range(41, 62)) / 2**101 < 0.97


def test_cases_are_picked_by_their_token_count(demo_artifacts: Path) -> None:
    with load(demo_artifacts / "onnx-fp32") as encoder:
        cases = single_text_cases(encoder.tokenizer, TEXTS, (4, 12, 100))
        assert [case.texts[0] for case in cases] == TEXTS
        for case in cases:
            assert case.tokens == len(encoder.tokenizer.encode(case.texts)[0])
        assert offline_case(encoder.tokenizer, TEXTS).tokens == sum(case.tokens for case in cases)


def test_two_subjects_are_measured_side_by_side(demo_artifacts: Path) -> None:
    result = bench([demo_artifacts / "onnx-fp32", demo_artifacts / "onnx-fp16"], "demo", QUICK)
    assert [row.measured.name for row in result.rows] == ["PyTorch", "onnx-fp32", "onnx-fp16"]
    for row in result.rows:
        assert row.measured.peak_bytes > 50e6
        assert row.measured.cold_s > row.measured.load_s > 0
        for timing in row.measured.timings:
            assert timing.total.samples >= 2 * QUICK.rounds
            assert timing.total.low <= timing.total.median <= timing.total.high
            assert timing.total.median <= timing.total.p90 <= timing.total.p99
            assert 0 < timing.tokenise.median < timing.total.median
    assert result.rows[1].passed is True
    assert result.rows[0].passed is None
    msgspec.json.encode(result)


def test_a_slower_engine_shows(demo_artifacts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load(demo_artifacts / "onnx-fp32", threads=1) as encoder:
        honest = np.median([sample["run"] for sample in measure_worker._time(encoder, ["one two"], 0.3)])
        run = encoder.engine.run

        def sluggish(batch: object) -> object:
            time.sleep(0.05)
            return run(batch)  # type: ignore[arg-type]

        monkeypatch.setattr(encoder.engine, "run", sluggish)
        slow = np.median([sample["run"] for sample in measure_worker._time(encoder, ["one two"], 0.3)])
    assert slow - honest > 0.03


def test_a_worker_that_dies_says_why(tmp_path: Path) -> None:
    with pytest.raises(RingkasError, match="there is no artifact folder"):
        measure([Subject("gone", artifact=tmp_path / "gone")], [], QUICK)


def test_ceiling_is_plausible() -> None:
    ceiling = measure_ceiling(1, seconds=0.2)
    assert 1 < ceiling.fp32_gops < 10_000
    assert 1 < ceiling.int8_gops < 100_000


def test_operations_of_minilm_are_those_of_its_paper_shape() -> None:
    # 6 layers, 384 wide, 1,536 inside: 10.6 million weights in the linear layers, two operations each.
    assert linear_operations(384, 1536, 6, 1) == pytest.approx(2 * 10_616_832 + 2 * 6 * 2 * 384, rel=1e-9)
