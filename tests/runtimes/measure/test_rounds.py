"""Measurement: what it reports is what happened, and a slow, broken or silent engine shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ringkas import RingkasError
from ringkas.artifact import open_artifact
from ringkas.runtimes.measure import ceiling
from ringkas.runtimes.measure.cases import MIX, OFFLINE, SINGLE_STREAM, Case
from ringkas.runtimes.measure.least_time import is_integer, work_of
from ringkas.runtimes.measure.rounds import Procedure, Subject, measure, open_workers, time_rounds
from ringkas.runtimes.parity.floors import FLOORS

QUICK = Procedure(rounds=2, seconds=0.05, threads=1)
TEXTS = ("one two", "a sentence of some ten words that says next to nothing")
CASES = (Case(MIX, SINGLE_STREAM, TEXTS, 18), Case(OFFLINE, OFFLINE, TEXTS, 18))


def test_samples_and_parts_of_an_artifact(demo_artifacts: Path) -> None:
    subject = Subject("fp32", artifact=demo_artifacts / "onnx-fp32")
    (record,) = measure([subject], CASES, QUICK)
    assert record.cold_s > record.load_s > 0
    assert record.memory is None or record.memory.peak >= record.memory.resident > 50e6
    assert [timing.case for timing in record.timings] == [MIX, OFFLINE]
    for timing in record.timings:
        assert timing.total.samples >= 2 * QUICK.rounds
        assert timing.fastest <= timing.total.low <= timing.total.median <= timing.total.high
        assert timing.total.median <= timing.total.p90 <= timing.total.p99
        assert len(timing.rounds) == QUICK.rounds
        assert timing.tokenise is not None
        assert timing.run is not None
        assert timing.engine is not None
        assert 0 < timing.tokenise.median < timing.total.median
        assert 0 < timing.engine.median < timing.run.median
        assert timing.cores is None or timing.cores > 0
    single, offline = record.timings
    assert (single.texts_per_call, offline.texts_per_call) == (1, 2)
    assert offline.tokens_per_second == pytest.approx(9 * offline.texts_per_second)


@pytest.mark.parametrize(("answer", "reason"), [
    ("raise SystemExit('out of order')", "out of order"),
    ("print('ready, steady')", "it answered 'ready, steady'"),
])  # fmt: skip
def test_a_worker_that_dies_or_babbles_says_why(answer: str, reason: str) -> None:
    with pytest.raises(RingkasError, match=reason):
        measure([Subject("broken", command=(sys.executable, "-c", answer))], [], QUICK)


def test_a_command_that_is_not_there_is_named() -> None:
    with pytest.raises(RingkasError, match="measuring absent failed: cannot start it"):
        measure([Subject("absent", command=("no-such-command",))], [], QUICK)


def test_an_artifact_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RingkasError, match="there is no artifact folder"):
        measure([Subject("gone", artifact=tmp_path / "gone")], [], QUICK)


def test_ceilings_are_plausible() -> None:
    with open_workers([ceiling.subject()], 1) as workers:
        timings = time_rounds([(workers[0], case) for case in ceiling.CASES], QUICK)
    found = ceiling.ceiling_of(timings[workers[0].name], 1)
    assert 1 < found.fp32_gops < 10_000
    assert 1 < found.int8_gops < 100_000
    assert 0.5 < found.read_gbytes < 10_000
    assert len(found.control_rounds) == QUICK.rounds


def test_operations_of_minilm_are_those_of_its_shape(demo_artifacts: Path) -> None:
    work = work_of(open_artifact(demo_artifacts / "onnx-fp32"))
    assert work is not None
    # 6 layers, 384 wide, 1,536 inside: 10.6 million weights in the linear layers, two operations each.
    assert work.operations(1) == pytest.approx(2 * 10_616_832 + 2 * 6 * 2 * 384, rel=1e-9)
    assert not work.integer
    assert work.weight_bytes == pytest.approx(4 * 10_616_832, rel=0.05)


def test_every_precision_of_8_bits_and_fewer_is_multiplied_in_integers() -> None:
    found = {precision: is_integer(precision) for precision in FLOORS}
    assert {name for name, integer in found.items() if integer} == {"8bit", "6bit", "5bit", "4bit", "3bit"}
    assert {name for name, integer in found.items() if not integer} == {"fp32", "fp16", "bf16", "fp8"}
