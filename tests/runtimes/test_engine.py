"""Every engine: after `close`, in a forked process, beside other threads. It leaves the process as it was."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import ringkas
from ringkas.errors import ArtifactError
from ringkas.runtimes.engine import Engine, Vectors
from ringkas.tokens import TokenBatch, pad

TARGETS = {"pytorch-fp32": "torch", "onnx-fp32": "onnxruntime", "gguf-f32": "llama_cpp"}
REPOSITORY = Path(__file__).resolve().parents[2]
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


@pytest.fixture(scope="module")
def built(small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    for module in TARGETS.values():
        pytest.importorskip(module)
    out = tmp_path_factory.mktemp("engines")
    for one in ringkas.build_all(ringkas.open_checkpoint(small_checkpoint()), list(TARGETS), out):
        assert one.report.passed
    return out


class Counting(Engine):
    """An engine of which nothing but the base is tested."""

    def __init__(self) -> None:
        super().__init__(4, 8)
        self.freed = 0

    def _run(self, batch: TokenBatch) -> Vectors:
        return np.ones((len(batch.input_ids), 4), dtype=np.float32)

    def _close(self) -> None:
        self.freed += 1


def in_a_fork(work: Callable[[], str]) -> str:
    """What `work` returns in a forked process, or the error that it raises; "" when it takes over 20 s."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        import signal

        signal.alarm(20)
        try:
            said = work()
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    return said


# The base


@needs_fork
def test_forked_process_is_refused_and_frees_nothing() -> None:
    engine = Counting()
    batch = pad([[1, 2]], 0)

    def work() -> str:
        engine.close()
        return f"{engine.freed} {engine.run(batch)}"

    assert re.match("ArtifactError: the encoder was opened by the process .* spawn", in_a_fork(work))
    assert in_a_fork(lambda: (engine.close(), str(engine.freed))[1]) == "0"
    engine.run(batch)


def test_closing_twice_frees_once() -> None:
    engine = Counting()
    with engine:
        engine.close()
    assert engine.freed == 1
    with pytest.raises(ArtifactError, match="the encoder is closed"):
        engine.run(pad([[1]], 0))
    with pytest.raises(ArtifactError, match="the encoder is closed"):
        engine.token_vectors(pad([[1]], 0))


# Each engine


@pytest.mark.parametrize("target", TARGETS)
def test_use_after_close_is_one_clear_error(built: Path, target: str) -> None:
    encoder = ringkas.load(built / target)
    encoder.encode("a text")
    encoder.close()
    encoder.close()
    for texts in ("a text", ["a", "b"], []):
        with pytest.raises(ArtifactError, match=r"the encoder is closed\. Load the artifact again"):
            encoder.encode(texts)
    with pytest.raises(ArtifactError, match="the encoder is closed"):
        encoder.encode_query("a text")


@needs_fork
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("target", TARGETS)
def test_forked_process_gets_an_error_or_the_same_vectors(built: Path, target: str) -> None:
    with ringkas.load(built / target, threads=2) as encoder:
        texts = [f"text {number}" for number in range(20)]
        expected = encoder.encode(texts)
        said = in_a_fork(lambda: str(np.abs(encoder.encode(texts) - expected).max() < 1e-6))
        if encoder.engine.survives_fork:
            assert target == "onnx-fp32"
            assert said == "True"
        else:
            assert said.startswith("ArtifactError: the encoder was opened by the process")
        np.testing.assert_array_equal(encoder.encode(texts), expected)


# Threads that a forked process has not: a lock is held for good there, and a pool does nothing.

FORKED = """
import os, signal, sys, threading
import ringkas
texts = [f"text {number}" for number in range(20)]
encoder = ringkas.load(sys.argv[1], threads=2)
expected = encoder.encode(texts)
held = [encoder.engine._lock, encoder.tokenizer._lock]
def hold():
    for lock in held:
        lock.__enter__()
holder = threading.Thread(target=hold)
holder.start(); holder.join()
child = os.fork()
if not child:
    signal.alarm(30)
    same = (encoder.encode(texts) == expected).all()
    with ringkas.load(sys.argv[1], threads=2) as own:
        same = same and (own.encode(texts) == expected).all()
    os._exit(0 if same else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needs_fork
@pytest.mark.parametrize("parallelism", ["true", "false"])
def test_fork_of_a_process_whose_threads_hold_locks(built: Path, parallelism: str) -> None:
    environment = os.environ | {"TOKENIZERS_PARALLELISM": parallelism}
    command = [sys.executable, "-W", "ignore", "-c", FORKED, str(built / "onnx-fp32")]
    subprocess.run(command, env=environment, check=True, timeout=120)


# The process


def test_loading_at_once_leaves_stdout_alone(built: Path) -> None:
    before = sys.stdout, sys.stderr
    threads = [threading.Thread(target=ringkas.load, args=(built / "onnx-fp32",)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sys.stdout, sys.stderr) == before


def test_nothing_redirects_the_streams_of_the_process() -> None:
    rooms = [REPOSITORY / name for name in ("export", "quantize", "runtimes", "src/ringkas")]
    files = [file for room in rooms for file in room.rglob("*.py")]
    assert len(files) > 100
    assigned = re.compile(r"redirect_std|sys\.std(out|err) *=")
    assert [file for file in files if assigned.search(file.read_text("utf-8"))] == []


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is kept elsewhere")
def test_onnxruntime_keeps_no_notes(built: Path, tmp_path: Path) -> None:
    script = f"import ringkas; ringkas.load({str(built / 'onnx-fp32')!r}).encode('a text')"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment | {"HOME": str(tmp_path)})
    assert list(tmp_path.rglob("*")) == []
