"""The whole benchmark on a small checkpoint: rows, parity, guard, reports, and sabotage that must show."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from ringkas import build_all, open_checkpoint
from ringkas.artifact import open_artifact, seal
from ringkas.errors import TextError
from ringkas.runtimes.measure.bench import BenchResult, Lineup, bench
from ringkas.runtimes.measure.cases import MIX, SERVER
from ringkas.runtimes.measure.compare import compare_results, read_result
from ringkas.runtimes.measure.report import to_html, to_markdown
from ringkas.runtimes.measure.rounds import Procedure
from ringkas.runtimes.measure.table import tables
from ringkas.runtimes.measure.worker import Subject

QUICK = Procedure(rounds=3, seconds=0.03, threads=1)
TEXTS = ("one two three four five six", "and a few words more than the six that came before them")
TARGETS = ("onnx-fp32", "onnx-fp16")
# A worker around an artifact whose engine was tampered with.
_WORKER = """
import json, sys, time
from ringkas.runtimes.encoder import load
from ringkas.runtimes.measure.worker_process import serve_requests

encoder = load(json.loads(sys.argv[1])["model"], threads=1)
run = encoder.engine.run

def sleepy(batch):
    time.sleep(0.001)
    return run(batch)

{tampering}
print(json.dumps({{"load_s": 0.0, "versions": {{"made": "here"}}}}), flush=True)
serve_requests(encoder)
"""


@pytest.fixture(scope="module")
def model(small_checkpoint: Callable[..., Path]) -> Path:
    return small_checkpoint()


@pytest.fixture(scope="module")
def dist(model: Path) -> Path:
    build_all(open_checkpoint(model), TARGETS, model.parent / "dist")
    return model.parent / "dist"


@pytest.fixture(scope="module")
def result(model: Path, dist: Path) -> BenchResult:
    return bench(Lineup(tuple(dist / target for target in TARGETS), str(model), texts=TEXTS), QUICK)


@pytest.fixture(scope="module")
def measure_engine(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BenchResult]:
    """A benchmark of the fp32 artifact's engine after `tampering`."""

    def run(tampering: str) -> BenchResult:
        script = tmp_path_factory.mktemp("worker") / "worker.py"
        script.write_text(_WORKER.format(tampering=tampering))
        command, model = (sys.executable, str(script)), str(dist / "onnx-fp32")
        peers = (Subject("engine", command=command, model=model, size=1234),)
        return bench(Lineup((dist / "onnx-fp32",), peers=peers, texts=TEXTS), replace(QUICK, rounds=8))

    return run


@pytest.fixture(scope="module")
def honest(measure_engine: Callable[[str], BenchResult]) -> BenchResult:
    return measure_engine("")


def test_rows_carry_size_parity_and_ratios(result: BenchResult) -> None:
    assert [row.measured.name for row in result.rows] == ["PyTorch", *TARGETS]
    assert result.compared_on == "the timed texts"
    reference, fp32, fp16 = result.rows
    assert reference.fidelity is None
    assert reference.size is None
    for row in (fp32, fp16):
        assert row.size
        assert row.fidelity
        assert row.fidelity.passed
        assert row.fidelity.texts == len(TEXTS)
        assert set(row.ratios) == {timing.case for timing in row.measured.timings}
        assert set(row.floors_ms) == set(row.ratios) - {MIX}
    assert result.ceiling is not None
    assert {one.value for one in reference.ratios.values()} == {1.0}


def test_a_server_alone_can_be_measured(dist: Path) -> None:
    found = bench(Lineup((dist / "onnx-fp32",), texts=TEXTS), replace(QUICK, scenarios=(SERVER,), rate=200.0))
    (row,) = found.rows
    assert row.measured.timings == ()
    assert row.served is not None
    assert [trial.texts for trial in row.served.trials] == [400, 400, 400]
    assert "Served as they arrive" in to_markdown(found)


def test_result_survives_json(result: BenchResult, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_bytes(msgspec.json.encode(result))
    assert read_result(file) == result


def test_peers_are_measured_and_compared_like_artifacts(honest: BenchResult) -> None:
    own, peer = honest.rows
    assert honest.compared_on == "the probe set"
    assert peer.size == 1234
    assert peer.measured.versions == {"made": "here"}
    assert peer.fidelity is not None
    assert own.fidelity is not None
    assert peer.fidelity.cosine_min == pytest.approx(own.fidelity.cosine_min, abs=1e-6)
    assert peer.fidelity.passed is None


def test_one_millisecond_more_is_a_slowdown(
    honest: BenchResult, measure_engine: Callable[[str], BenchResult]
) -> None:
    sleepy = measure_engine("encoder.engine.run = sleepy")
    changes = [change for change in compare_results(honest, sleepy).changes if change.name == "engine"]
    assert all(change.ratio.value > 1.5 for change in changes)
    assert any(change.slower for change in changes)


def test_a_constant_engine_shows_in_the_parity_column(
    honest: BenchResult, measure_engine: Callable[[str], BenchResult]
) -> None:
    constant = measure_engine("encoder.engine.run = lambda batch: run(batch) * 0 + 1")
    before, after = honest.rows[1].fidelity, constant.rows[1].fidelity
    assert before is not None
    assert after is not None
    assert before.cosine_min > 0.99999
    assert after.cosine_min < 0.9


def test_a_constant_artifact_is_struck_through_and_fails_the_guard(
    result: BenchResult, model: Path, dist: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "onnx-fp32"
    shutil.copytree(dist / "onnx-fp32", broken)
    graph = onnx.load(broken / "onnx" / "model.onnx")
    last = next(node for node in graph.graph.node if "sentence_embedding" in node.output)
    last.output[list(last.output).index("sentence_embedding")] = "honest"
    for name, value in (("zero", 0.0), ("some", 0.1)):
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(value), name))
    graph.graph.node.append(onnx.helper.make_node("Mul", ["honest", "zero"], ["nothing"]))
    graph.graph.node.append(onnx.helper.make_node("Add", ["nothing", "some"], ["sentence_embedding"]))
    onnx.save(graph, broken / "onnx" / "model.onnx")
    seal(broken, open_artifact(dist / "onnx-fp32").manifest)
    found = bench(Lineup((broken, dist / "onnx-fp16"), str(model), texts=TEXTS), result.plan)
    row = found.rows[1]
    assert row.fidelity is not None
    assert row.fidelity.passed is False
    assert [line.struck for line in tables(found)[0].lines] == [False, True, False]
    assert "| ~~onnx-fp32~~ |" in to_markdown(found)
    assert "<tr class=struck><td>onnx-fp32</td>" in to_html(found)
    assert compare_results(result, found).fidelity_lost == ("onnx-fp32",)


def test_a_result_is_not_slower_than_itself(result: BenchResult) -> None:
    comparison = compare_results(result, result)
    assert not comparison.slower
    assert {change.ratio.value for change in comparison.changes} == {1.0}


def test_chance_alone_is_rarely_a_slowdown(result: BenchResult) -> None:
    """Two runs on a machine whose rounds differ by a tenth, which is twice as slow in the second run."""
    rng = np.random.default_rng(2)
    alarms = sum(
        compare_results(simulated(result, rng), simulated(result, rng, machine=2.0)).slower
        for _ in range(200)
    )
    assert alarms <= 12


def test_a_real_slowdown_is_mostly_found(result: BenchResult) -> None:
    rng = np.random.default_rng(3)
    found = sum(
        compare_results(simulated(result, rng), simulated(result, rng, machine=0.5, engine=1.6)).slower
        for _ in range(50)
    )
    assert found >= 45


def simulated(
    result: BenchResult, rng: np.random.Generator, machine: float = 1.0, engine: float = 1.0
) -> BenchResult:
    """The result with 8 rounds drawn anew, each with the machine's own pace, which the control shares."""
    pace = machine * np.exp(rng.normal(0, 0.1, 8))

    def times(base: float) -> tuple[float, ...]:
        return tuple((base * pace * np.exp(rng.normal(0, 0.03, 8))).tolist())

    rows = tuple(
        msgspec.structs.replace(
            row,
            measured=msgspec.structs.replace(
                row.measured,
                timings=tuple(
                    msgspec.structs.replace(timing, rounds=times(engine)) for timing in row.measured.timings
                ),
            ),
        )
        for row in result.rows
    )
    assert result.ceiling is not None
    ceiling = msgspec.structs.replace(result.ceiling, control_rounds=times(1.0))
    return msgspec.structs.replace(result, rows=rows, ceiling=ceiling, plan=replace(result.plan, rounds=8))


@pytest.mark.parametrize(("change", "reason"), [
    ({"texts_sha256": "0"}, "different texts"),
    ({"plan": replace(QUICK, threads=2)}, "different threads"),
    ({"rows": ()}, "nothing in common"),
])  # fmt: skip
def test_what_cannot_be_compared_is_said(result: BenchResult, change: dict[str, Any], reason: str) -> None:
    with pytest.raises(TextError, match=reason):
        compare_results(result, msgspec.structs.replace(result, **change))


def test_too_few_rounds_cannot_be_judged(result: BenchResult) -> None:
    short = msgspec.structs.replace(result, plan=replace(result.plan, rounds=2))
    with pytest.raises(TextError, match="2 rounds cannot be judged"):
        compare_results(short, short)


@pytest.mark.parametrize(("content", "reason"), [
    (b"{}", "is not a benchmark's result"),
    (b"\xff", "is not a benchmark's result"),
    (b'{"schema_version": 1}', "schema version 1"),
    (b'{"schema_version": 2, "rows": 3}', "is not a benchmark's result"),
])  # fmt: skip
def test_other_files_are_no_results(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "result.json"
    file.write_bytes(content)
    with pytest.raises(TextError, match=reason):
        read_result(file)
    with pytest.raises(TextError, match="cannot read"):
        read_result(tmp_path / "absent.json")


def test_page_stands_alone_and_escapes_names(result: BenchResult) -> None:
    odd = "<b>&ugly"
    first = result.rows[0]
    renamed = msgspec.structs.replace(first, measured=msgspec.structs.replace(first.measured, name=odd))
    page = to_html(msgspec.structs.replace(result, rows=(renamed, *result.rows[1:])))
    assert odd not in page
    assert page.count("<svg") == 3
    assert page.count("</svg>") == 3
    for outside in ("<script", "<link", "src=", "@import", "url(http"):
        assert outside not in page


def test_markdown_has_a_row_for_each(result: BenchResult) -> None:
    text = to_markdown(result)
    for row in result.rows:
        assert text.count(f"| {row.measured.name} |") >= 4
        for timing in row.measured.timings:
            assert f"| {row.measured.name} | {timing.case} |" in text
