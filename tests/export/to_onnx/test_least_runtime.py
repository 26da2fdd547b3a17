"""The least onnxruntime that a card states runs the graph, and an older one does not run 4 bits."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import ringkas
from ringkas import build_all, open_checkpoint
from ringkas.export.build import BuildOptions
from ringkas.export.to_onnx.format import LEAST_ONNXRUNTIME
from ringkas.export.to_onnx.graph import TRANSFORMERS_JS_FILES
from ringkas.runtimes.parity.judge import cosine

TEXTS = ["a text", "", "하나 둘 셋", "a long text " * 40]
SCRIPT = """
import json, sys
import numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
rows = [numpy.array([row], dtype=numpy.int64) for row in json.loads(sys.argv[2])]
feeds = [{"input_ids": row, "attention_mask": numpy.ones_like(row)} for row in rows]
print(json.dumps([session.run(["sentence_embedding"], feed)[0][0].tolist() for feed in feeds]))
"""


@pytest.fixture(scope="module")
def dist(small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("least") / "dist"
    checkpoint = open_checkpoint(small_checkpoint(width=64, max_length=64))
    build_all(checkpoint, list(LEAST_ONNXRUNTIME), out, BuildOptions(witness=False))
    return out


def run(python: Path, graph: Path, ids: Any) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-c", SCRIPT, str(graph), json.dumps(ids)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_every_target_states_one() -> None:
    assert LEAST_ONNXRUNTIME.keys() == TRANSFORMERS_JS_FILES.keys()


@pytest.mark.clients
@pytest.mark.parametrize("target", LEAST_ONNXRUNTIME)
def test_the_least_runs_it(target: str, dist: Path, environments: ModuleType) -> None:
    least = LEAST_ONNXRUNTIME[target]
    assert f"needs\nonnxruntime {least} or later" in (dist / target / "README.md").read_text("utf-8")
    with ringkas.load(dist / target, allow_failed=True) as encoder:
        expected, ids = encoder.encode(TEXTS), encoder.tokenizer.encode(TEXTS)
    python = environments.interpreter(f"onnxruntime-{least}")
    done = run(python, dist / target / "onnx" / "model.onnx", ids)
    assert done.returncode == 0, done.stderr
    assert cosine(expected, np.array(json.loads(done.stdout), dtype=np.float32)).min() > 0.9999


@pytest.mark.clients
def test_an_older_one_has_no_tensors_of_4_bits(dist: Path, environments: ModuleType) -> None:
    python = environments.interpreter("onnxruntime-1.18")
    done = run(python, dist / "onnx-int4" / "onnx" / "model.onnx", [[0, 5, 2]])
    assert done.returncode != 0
    assert "not supported" in done.stderr
