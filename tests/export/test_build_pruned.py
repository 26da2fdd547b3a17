"""`build --languages`: pruned artifacts against the full model, through the id map."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ringkas import (
    RingkasError,
    build,
    build_all,
    load,
    load_reference_encoder,
    open_artifact,
    open_checkpoint,
    verify,
)
from ringkas.artifact import seal
from ringkas.export.build import BuildOptions
from ringkas.export.build import pruned as pruned_for_build
from ringkas.export.vocabulary.prune import PruneOptions, prune_checkpoint
from ringkas.progress import QUIET
from ringkas.quantize.calibrate import token_ids
from ringkas.runtimes.parity.judge import cosine
from ringkas.texts import split_corpus
from ringkas.tokens import TextTokenizer

ROWS = 20_000


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo checkpoint cut to English, in onnx-fp32."""
    out = tmp_path_factory.mktemp("pruned")
    return build("demo", "onnx-fp32", out, languages=["en"], max_tokens=ROWS).path


def test_fewer_rows_and_a_certificate(pruned: Path, demo_artifacts: Path) -> None:
    artifact = open_artifact(pruned)
    vocabulary = artifact.manifest.vocabulary
    assert vocabulary is not None
    assert vocabulary["rows"] == {"before": 30522, "after": ROWS}
    assert vocabulary["by_language"]["en"]["tokens_kept"] > 0.98
    kept = artifact.kept_ids()
    assert kept is not None
    assert len(kept) == ROWS
    saved = open_artifact(demo_artifacts / "onnx-fp32").size - artifact.size
    assert saved > (30522 - ROWS) * 384 * 4
    assert (artifact.manifest.source.model, artifact.manifest.languages) == ("demo", ("en",))


@pytest.mark.parametrize("reference", [None, "demo"])
def test_covered_texts_hold_against_the_full_model(pruned: Path, reference: str | None) -> None:
    report = verify(pruned, reference=reference)
    assert report.passed
    assert report.cosine_min >= 0.99999
    assert 0 < report.skipped < report.texts


def test_texts_that_lost_tokens_still_have_vectors(pruned: Path) -> None:
    sample = ["안녕하세요", "a quokka's zygomatic arch"]
    with load(pruned) as encoder:
        vectors = encoder.encode(sample)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_shifted_id_map_fails(pruned: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(pruned, tmp_path / "sabotaged"))
    ids = np.load(path / "vocabulary" / "kept_ids.npy")
    np.save(path / "vocabulary" / "kept_ids.npy", np.roll(ids, 1))
    seal(path, open_artifact(path).manifest)
    report = verify(path)
    assert not report.passed
    assert any("get other token ids" in failure for failure in report.failures)


def test_id_map_of_a_smaller_vocabulary_is_refused(pruned: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(pruned, tmp_path / "sabotaged"))
    manifest = open_artifact(path).manifest
    ids = np.load(path / "vocabulary" / "kept_ids.npy")
    np.save(path / "vocabulary" / "kept_ids.npy", ids[:10_000])
    seal(path, manifest)
    with pytest.raises(RingkasError, match="is not of this artifact's tokenizer"):
        verify(path)


def test_shifted_embedding_row_fails(pruned: Path, tmp_path: Path) -> None:
    """A table whose rows no longer belong to their tokens: ids are right, vectors are not."""
    path = Path(shutil.copytree(pruned, tmp_path / "sabotaged"))
    model = onnx.load(path / "onnx" / "model.onnx")
    table = next(one for one in model.graph.initializer if list(one.dims) == [ROWS, 384])
    table.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(table), 1, axis=0), table.name))
    onnx.save(model, path / "onnx" / "model.onnx")
    seal(path, open_artifact(path).manifest)
    assert not verify(path).passed


def test_e5_small_vocabulary_in_korean_and_english(
    shapes: Any, narrow: Any, xlmr_tokenizer: Any, make_checkpoint: Any, lines_of: Any, tmp_path: Path
) -> None:
    """250,037 rows to 41,348, on random weights, in llama.cpp where it is installed."""
    shape = shapes["bert"](xlmr_tokenizer, vocab_size=250037, **narrow)
    path = make_checkpoint(tmp_path / "multilingual-e5-small-ko", shape)
    target = "gguf-f32" if find_spec("llama_cpp") else "onnx-fp32"
    options = BuildOptions(prune=PruneOptions(("ko", "en"), max_tokens=41_348))
    (built,) = build_all(open_checkpoint(path), [target], tmp_path / "dist", options)
    full = load_reference_encoder(path)
    sample = lines_of("ko")[:100] + lines_of("en")[:100]
    ids = full.tokenizer.encode(sample)
    assert built.report.passed
    assert built.artifact.manifest.encoding.prompts == {"query": "query: ", "passage": "passage: "}
    kept = built.artifact.kept_ids()
    assert kept is not None
    assert len(kept) == 41_348
    known = set(kept.tolist())
    covered = [text for text, own in zip(sample, ids, strict=True) if known.issuperset(own)]
    assert len(covered) > 0.9 * len(sample)
    with load(built.artifact) as encoder:
        assert cosine(full.encode(covered), encoder.encode(covered)).min() >= 0.99999


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"languages": ["xx-nowhere"]}, "xx"),
        ({"languages": ["jv"]}, "--corpus"),
        ({"max_tokens": 100}, "only with languages"),
        ({"languages": ["en"], "max_tokens": 10}, "10"),
    ],
)
def test_bad_languages_leave_nothing(options: dict[str, Any], why: str, tmp_path: Path) -> None:
    with pytest.raises(RingkasError, match=why):
        build("demo", "onnx-fp32", tmp_path / "dist", **options)
    assert not (tmp_path / "dist").exists() or not list((tmp_path / "dist").iterdir())


def test_certificate_is_in_the_card(pruned: Path) -> None:
    card = (pruned / "README.md").read_text(encoding="utf-8")
    assert "## Vocabulary: en" in card
    manifest = json.loads((pruned / "ringkas.json").read_text(encoding="utf-8"))
    judged = manifest["vocabulary"]["by_language"].values()
    assert f"Judged on {sum(report['texts'] for report in judged):,} texts" in card
    assert f"{sum(report['covered_bit_identical'] for report in judged)} covered texts" in card
    assert manifest["files"]["vocabulary/kept_ids.npy"]["size"] > 4 * ROWS


@pytest.mark.full
def test_pruning_twice_maps_to_the_first_vocabulary(demo_artifacts: Path, tmp_path: Path) -> None:
    once = prune_checkpoint(
        open_checkpoint("demo"), PruneOptions(("en",), max_tokens=ROWS), tmp_path / "once"
    )
    options = BuildOptions(prune=PruneOptions(("en",), max_tokens=15_000))
    built = build_all(once, ["pytorch-fp32"], tmp_path / "dist", options)[0]
    assert built.report.passed
    assert built.report.texts > 10
    assert verify(built.artifact, reference="demo", record=False).passed


def test_a_corpus_calibrates_with_the_part_set_aside_for_it(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    lines = [f"the {number}th line speaks of umbrellas, harbours and rain" for number in range(200)]
    file.write_text("\n".join(lines), encoding="utf-8")
    aside = tuple(split_corpus(lines)["calibrate"])
    assert 5 < len(aside) < 50
    options = PruneOptions(("en",), {"en": (file,)})
    with pruned_for_build(open_checkpoint("demo"), options, tmp_path / "dist", QUIET) as checkpoint:
        assert checkpoint.calibration_texts == {"en": aside}
        found = token_ids(checkpoint, 100_000)
        own = TextTokenizer(checkpoint.path, checkpoint.spec).encode(aside)
        built_in = token_ids(replace(checkpoint, calibration_texts={}), 100_000)
    assert [row for row in found if row in own] == own
    assert len(found) == len(own) + len(built_in)
