"""The peers' side of a measurement: the lines that they speak, and environments that are made once."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"

SLOW = 0.005

# A peer that prints where only answers belong, itself and through another process.
RUNNER = """
import os
import time
import numpy as np
from worker import serve

def open_encoder(model, threads):
    os.system("echo noise of another process")
    def encode(texts):
        print("a call of", len(texts))
        time.sleep(0.005 if "slow" in texts else 0)
        return np.array([[len(text), len(texts), threads] for text in texts], dtype=np.float64)
    print(model)
    return encode

serve(open_encoder, packages=("numpy",))
"""


@pytest.fixture
def talk(tmp_path: Path) -> Any:
    """Sends requests to a peer; its answers, and what it said on stderr."""
    runner = tmp_path / "runner.py"
    runner.write_text(RUNNER, "utf-8")

    def run(*requests: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
        done = subprocess.run(
            [sys.executable, runner, "own argument", json.dumps({"model": "the model", "threads": 3})],
            input="".join(json.dumps(request) + "\n" for request in requests),
            env={"PYTHONPATH": str(PEERS)},
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr.splitlines()

    return run


def test_only_answers_reach_stdout(talk: Any) -> None:
    (ready, encoded), said = talk({"do": "encode", "texts": ["a", "bcd"]})
    assert {"the model", "noise of another process", "a call of 2"} <= set(said)
    assert ready["versions"] == {"numpy": np.__version__}
    assert ready["threads"] == 3
    assert ready["load_s"] > 0
    vectors = np.frombuffer(base64.b64decode(encoded["vectors"]), dtype="<f4").reshape(encoded["shape"])
    assert vectors.tolist() == [[1, 2, 3], [3, 2, 3]]


def test_times_and_memory(talk: Any) -> None:
    texts = ["a", "b", "c", "d"]
    (_, warm, together, alone, memory), said = talk(
        {"do": "warm_up", "case": "one", "texts": texts, "each": False},
        {"do": "time", "case": "one", "seconds": 0, "each": False},
        {"do": "time", "case": "one", "seconds": 0, "each": True},
        {"do": "memory"},
    )
    assert warm == {}
    assert len(together["samples"]) == len(alone["samples"]) == 3
    assert [line for line in said if line.startswith("a call")][-6:] == ["a call of 4"] * 3 + [
        "a call of 1"
    ] * 3
    assert all(sample["total"] > 0 for sample in together["samples"] + alone["samples"])
    assert memory["peak_bytes"] > 10_000_000


def test_served_texts_wait_their_turn(talk: Any) -> None:
    served = {"do": "serve", "case": "one", "rate": 100, "seconds": 0.2, "seed": 7}
    (_, _, calm, swamped), said = talk(
        {"do": "warm_up", "case": "one", "texts": ["slow"], "each": True},
        served,
        served | {"rate": 1e6, "seconds": 0.02},
    )
    for answer, arrived in ((calm, 20), (swamped, 20_000)):
        assert len(answer["latencies"]) + answer["unfinished"] == arrived
        assert min(answer["latencies"]) >= SLOW
    # More than can be served in time: the rest is told, not waited for.
    assert swamped["unfinished"] > 10_000
    assert "a call of 64" in said


def test_unknown_request_ends_the_peer(talk: Any) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        talk({"do": "nothing"})


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with folders of the test's own, and `made`: what was installed."""
    monkeypatch.syspath_prepend(str(PEERS))
    module = import_module("environments")
    made: list[tuple[str, ...]] = []

    def install(environment: Any, folder: Path) -> None:
        assert not any(folder.iterdir())  # what another run left is gone
        made.append(environment.requirements)
        (folder / "half").touch()
        if "broken" in environment.requirements:
            raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(module, "PEERS", tmp_path)
    monkeypatch.setattr(module, "_install_python", install)
    monkeypatch.setattr(module, "made", made, raising=False)
    return module


def test_environment_is_made_once_and_again_when_its_requirements_change(environments: Any) -> None:
    one = environments.Environment(("a==1",))
    environments.ENVIRONMENTS["test"] = one
    assert not environments.is_ready("test")
    for _ in range(2):
        assert environments.interpreter("test") == environments.PEERS / "test" / "bin" / "python"
    assert environments.made == [("a==1",)]
    environments.ENVIRONMENTS["test"] = environments.Environment(("a==2",))
    assert not environments.is_ready("test")
    environments.interpreter("test")
    assert environments.made == [("a==1",), ("a==2",)]


def test_environment_that_was_cut_short_is_not_ready(environments: Any) -> None:
    environments.ENVIRONMENTS["test"] = environments.Environment(("broken",))
    for _ in range(2):
        with pytest.raises(subprocess.CalledProcessError):
            environments.interpreter("test")
        assert not environments.is_ready("test")
    assert len(environments.made) == 2


def test_a_model_that_was_cut_short_is_made_again(environments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    models = import_module("models")
    monkeypatch.setattr(models, "PEERS", environments.PEERS)
    attempts: list[Path] = []

    def write(place: Path) -> None:
        assert not place.exists()
        place.mkdir()
        attempts.append(place)
        if len(attempts) == 1:
            raise OSError("the disk is full")

    model = models.Model("one", write)
    with pytest.raises(OSError, match="full"):
        model.make()
    assert not model.is_ready()
    assert model.make() == model.make() == environments.PEERS / "models" / "one"
    assert len(attempts) == 2
    newer = models.Model("one", write, made_by=("a==2",))
    assert not newer.is_ready()
    assert newer.make() != model.make()
    assert len(attempts) == 3


def test_what_is_compiled_here_is_another_environment(environments: Any) -> None:
    for source in ((), ("a",)):
        environments.ENVIRONMENTS["test"] = environments.Environment(("a==1",), source=source)
        assert not environments.is_ready("test")
        environments.interpreter("test")
    assert len(environments.made) == 2


def test_every_peer_has_an_environment_and_a_runner(environments: Any) -> None:
    prepare = import_module("prepare")
    for peer in [peer for peers in prepare.BY_CHECKPOINT.values() for peer in peers.values()]:
        assert peer.environment in environments.ENVIRONMENTS
        assert (PEERS / peer.runner[0]).is_file()
