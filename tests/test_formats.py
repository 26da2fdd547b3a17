"""A new format is one row and one module: a toy is built, judged and loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from ringkas import RingkasError, build_all, load, open_checkpoint
from ringkas.extras import TO_PYTORCH
from ringkas.formats import FORMATS, Format

# The module. A text's vector is the mean of its rows of the token table: no model, so its parity must fail.
TOY = """
import numpy as np
from ringkas.export import finish
from ringkas.runtimes.engine import Engine
from ringkas.runtimes.reference import load_reference

check = lambda checkpoint, target, options: None
judge = lambda job, artifact, probe: finish.judge_artifact(artifact, probe, job.progress)
card = lambda manifest, folder: "Read `table.npy` with NumPy."

def write(job):
    table = load_reference(job.checkpoint).encoder.get_submodule(job.checkpoint.family.token_table)
    np.save(job.folder / "table.npy", table.weight.detach().numpy())
    return finish.Written("table.npy", {"weights": "fp32"})

class Mean(Engine):
    def __init__(self, artifact):
        super().__init__(artifact.manifest.encoding.dimension, artifact.manifest.encoding.max_length)
        self.table = np.load(artifact.model_path)

    def _run(self, batch):
        rows = self.table[batch.input_ids] * batch.attention_mask[..., None]
        means = rows.sum(1) / batch.attention_mask.sum(1, keepdims=True)
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)

open_engine = lambda artifact, threads, device: Mean(artifact)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "toy_format.py").write_text(TOY, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    row = Format("toy_format", TO_PYTORCH, {"mean": "toy_format"}, {"toy-fp32": "fp32"})
    monkeypatch.setitem(FORMATS, "toy", row)
    yield
    sys.modules.pop("toy_format", None)


def test_a_format_of_one_row_and_one_module_is_built_judged_and_loaded(
    toy: None, small_checkpoint: Any, tmp_path: Path
) -> None:
    (built,) = build_all(open_checkpoint(small_checkpoint()), ["toy-fp32"], tmp_path / "dist")
    assert not built.report.passed
    assert built.report.engine == "mean"
    assert "Read `table.npy` with NumPy." in (built.artifact.path / "README.md").read_text(encoding="utf-8")
    with pytest.raises(RingkasError, match="failed its parity check"):
        load(built.artifact.path)
    with load(built.artifact.path, engine="mean", allow_failed=True) as encoder:
        assert encoder.encode(["one", "two three"]).shape == (2, 32)


def test_an_engine_of_another_format_is_refused(demo_artifacts: Path) -> None:
    with pytest.raises(RingkasError, match=r"cannot be run by the engine 'llama\.cpp'.*onnxruntime"):
        load(demo_artifacts / "onnx-fp32", engine="llama.cpp")
    with load(demo_artifacts / "onnx-fp32", engine="onnxruntime", threads=1) as encoder:
        assert encoder.encode("one").shape == (384,)
