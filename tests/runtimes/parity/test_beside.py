"""The probe of another process is the probe: the same vectors, the same refusals, and no process is left."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from ringkas import open_checkpoint
from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.progress import QUIET
from ringkas.runtimes.parity import beside
from ringkas.runtimes.parity.probe import Probe
from ringkas.runtimes.parity.verify import reference_probe

pytest.importorskip("sentence_transformers")


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint: Callable[..., Path]) -> Checkpoint:
    folder = small_checkpoint(prompts={"query": "query: ", "passage": "passage: "}, max_length=64)
    return replace(open_checkpoint(folder), languages=("en",))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Every reference is worth a process; what is done in this one all the same is noted."""
    done_here: list[bool] = []

    def noted(*arguments: Any, **options: Any) -> Probe:
        done_here.append(True)
        return reference_probe(*arguments, **options)

    monkeypatch.setattr(beside, "_WORTH_IT", 0)
    monkeypatch.setattr(beside, "usable_cores", lambda: 2)
    monkeypatch.setattr(beside, "reference_probe", noted)
    return done_here


def test_the_other_process_makes_the_same_probe(checkpoint: Checkpoint, elsewhere: list[bool]) -> None:
    with beside.probing(checkpoint, 0, witness=True, progress=QUIET) as asked:
        probe = asked()
        assert asked() is probe
    assert not elsewhere
    own = reference_probe(checkpoint, checkpoint.languages)
    assert (probe.texts, probe.token_ids, probe.reference) == (own.texts, own.token_ids, own.reference)
    np.testing.assert_allclose(probe.vectors, own.vectors, atol=1e-6)
    assert probe.search is not None
    assert set(probe.search) == {"en"}
    assert probe.witness is not None
    assert own.witness is not None
    assert probe.witness.library == own.witness.library == "sentence-transformers"


def test_the_other_process_imports_nothing_from_the_current_folder(
    checkpoint: Checkpoint, elsewhere: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pickle", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)\n")
    monkeypatch.chdir(tmp_path)
    with beside.probing(checkpoint, 0, witness=False, progress=QUIET) as asked:
        assert len(asked())
    assert not elsewhere


def test_a_witness_that_disagrees_there_is_heard_here(checkpoint: Checkpoint, elsewhere: list[bool]) -> None:
    wrong = replace(checkpoint, spec=msgspec.structs.replace(checkpoint.spec, normalize=False))
    with (
        beside.probing(wrong, 0, witness=True, progress=QUIET) as asked,
        pytest.raises(CheckpointError, match="computes other vectors"),
    ):
        asked()
    assert not elsewhere


@pytest.mark.parametrize("says", [b"", b"no probe", pickle.dumps("no probe")])
def test_without_an_answer_it_is_done_here(
    checkpoint: Checkpoint,
    elsewhere: list[bool],
    says: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dying = tmp_path / "python"
    octal = "".join(f"\\{byte:03o}" for byte in says)
    dying.write_text(f"#!/bin/sh\nprintf '{octal}'\nexit 9\n")
    dying.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(dying))
    with beside.probing(checkpoint, 0, witness=False, progress=QUIET) as asked:
        assert len(asked())
    assert elsewhere == [True]


def test_a_small_reference_is_not_worth_a_process(checkpoint: Checkpoint, elsewhere: list[bool]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beside, "_WORTH_IT", 1)
        with beside.probing(checkpoint, 0, witness=False, progress=QUIET) as asked:
            assert elsewhere == [True]
            assert len(asked())


def test_an_interruption_ends_the_other_process(checkpoint: Checkpoint, elsewhere: list[bool]) -> None:
    before = set(psutil.Process().children())
    started: set[psutil.Process] = set()
    with suppress(KeyboardInterrupt), beside.probing(checkpoint, 0, witness=False, progress=QUIET):
        started = set(psutil.Process().children()) - before
        raise KeyboardInterrupt
    assert started
    for process in started:
        with suppress(psutil.NoSuchProcess):
            assert process.status() == psutil.STATUS_ZOMBIE


# A process that asks another one, whose probe takes five minutes, and says which process that is.
_ASKING = """
import pickle, subprocess, sys, time
from dataclasses import fields
from ringkas import open_checkpoint
from ringkas.checkpoint import Checkpoint
from ringkas.progress import QUIET

code = (
    "import time; from ringkas.runtimes.parity import beside\\n"
    "beside.reference_probe = lambda *_, **__: time.sleep(300)\\n" + sys.argv[2] + "beside.main()"
)
checkpoint = open_checkpoint(sys.argv[1])
stated = {one.name: getattr(checkpoint, one.name) for one in fields(Checkpoint) if one.name != "family"}
child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
pickle.dump((stated, False, QUIET), child.stdin)
child.stdin.flush()
print(child.pid, flush=True)
time.sleep(300)
"""


@pytest.mark.parametrize("watches", [True, False])
def test_a_killed_build_takes_the_other_process_along(checkpoint: Checkpoint, watches: bool) -> None:
    sabotage = "" if watches else "beside._end_with = lambda asking: None\n"
    command = [sys.executable, "-c", _ASKING, str(checkpoint.path), sabotage]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    with suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
        child.wait(60 if watches else 15)
    assert child.is_running() is not watches
    if not watches:
        child.kill()
