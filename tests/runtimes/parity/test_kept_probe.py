"""A probe that an earlier run kept is the probe, and is of this checkpoint as it is now."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from ringkas import cache, open_checkpoint
from ringkas.checkpoint import Checkpoint
from ringkas.errors import RingkasError
from ringkas.export.build import BuildOptions, build_all
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.parity.kept_probe import KeptProbe
from ringkas.runtimes.parity.probe import Probe
from ringkas.runtimes.parity.verify import reference_probe

pytest.importorskip("sentence_transformers")


@pytest.fixture
def checkpoint(
    small_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Checkpoint:
    monkeypatch.setenv("RINGKAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RINGKAS_CACHE_MB", "16")
    return replace(open_checkpoint(small_checkpoint(max_length=64)), languages=("en",))


def kept(checkpoint: Checkpoint, *, witness: bool = True, progress: Progress = QUIET) -> KeptProbe:
    return KeptProbe(checkpoint, witness=witness, progress=progress)


def made(checkpoint: Checkpoint) -> Probe:
    return kept(checkpoint).made_by(lambda: reference_probe(checkpoint, checkpoint.languages))


def test_it_is_the_probe_to_the_last_bit(checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]) -> None:
    assert kept(checkpoint).find() is None
    probe = made(checkpoint)
    found = kept(checkpoint, progress=Progress()).find()
    assert found is not None
    assert "kept by an earlier run" in capsys.readouterr().err
    assert (found.groups, found.texts, found.token_ids) == (probe.groups, probe.texts, probe.token_ids)
    assert (found.reference, found.witness) == (probe.reference, probe.witness)
    np.testing.assert_array_equal(found.vectors, probe.vectors)
    assert probe.search is not None
    assert found.search is not None
    assert found.search.keys() == probe.search.keys()
    for language, asked in probe.search.items():
        assert found.search[language].questions == asked.questions
        np.testing.assert_array_equal(found.search[language].query_vectors, asked.query_vectors)
        np.testing.assert_array_equal(found.search[language].passage_vectors, asked.passage_vectors)


def test_another_reading_or_other_weights_are_another_probe(checkpoint: Checkpoint) -> None:
    made(checkpoint)
    pooled = msgspec.structs.replace(checkpoint.spec, normalize=False)
    assert kept(replace(checkpoint, spec=pooled)).find() is None
    assert kept(replace(checkpoint, languages=("ko",))).find() is None
    assert kept(checkpoint, witness=False).find() is None
    assert kept(replace(checkpoint, source="elsewhere")).find() is not None
    with (checkpoint.path / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        last = weights.read(1)
        weights.seek(-1, 2)
        weights.write(bytes([last[0] ^ 1]))
    assert kept(checkpoint).find() is None


def test_what_was_made_while_a_file_changed_is_not_kept(checkpoint: Checkpoint) -> None:
    def make() -> Probe:
        probe = reference_probe(checkpoint, checkpoint.languages, witness=False)
        (checkpoint.path / "README.md").write_text("another")
        return probe

    kept(checkpoint).made_by(make)
    assert cache.entries() == []


@pytest.mark.skipif(os.name == "nt", reason="there names are Unicode")
def test_a_file_without_a_readable_name_is_no_obstacle(checkpoint: Checkpoint) -> None:
    strange = os.fsencode(checkpoint.path) + b"/r\xe9sum\xe9.txt"
    with open(strange, "wb"):
        pass
    try:
        made(checkpoint)
        assert kept(checkpoint).find() is None
    finally:
        os.unlink(strange)


def test_a_bound_that_is_no_number_is_refused_before_any_work(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGKAS_CACHE_MB", "much")
    with pytest.raises(RingkasError, match="not a whole number"):
        build_all(checkpoint, ["onnx-fp32"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_probe_is_not_taken(checkpoint: Checkpoint) -> None:
    made(checkpoint)
    (entry,) = cache.entries()
    key = entry.path.stem.partition("-")[2]
    cache.keep("reference", key, b"\x93no probe")
    assert kept(checkpoint).find() is None


def test_a_build_from_it_is_the_same_build(checkpoint: Checkpoint, tmp_path: Path) -> None:
    files = []
    for name in ("first", "second"):
        built = build_all(checkpoint, ["onnx-int8"], tmp_path / name, BuildOptions())[0]
        own = {path.name: path.read_bytes() for path in built.artifact.path.rglob("*") if path.is_file()}
        files.append(own)
    assert len(cache.entries()) == 1
    assert files[0] == files[1]
