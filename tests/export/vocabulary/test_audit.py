"""The audit passes what is right, and each sabotage of it fails."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.export.vocabulary.audit import audit, audit_tokenizer
from ringkas.export.vocabulary.certificate import Comparison, compare_segmentation, unknown_ids
from ringkas.export.vocabulary.encoded import SAME_AT_MOST, compare_vectors
from ringkas.export.vocabulary.kinds import vocabulary_size
from ringkas.export.vocabulary.pieces import read_pieces
from ringkas.export.vocabulary.prune import PruneOptions, make_plan, write_pruned
from ringkas.export.vocabulary.rewrite import rewrite_document
from ringkas.export.vocabulary.segment import Segmenter

Document = dict[str, Any]
TEXTS = ["The weather is lovely today.", "오늘은 날씨가 좋습니다.", "Buku itu ada di atas meja."]


def kept_for(document: Document, texts: list[str]) -> list[int]:
    pieces = read_pieces(document)
    pending = {
        id for row in Segmenter(document).ids(texts, special=True) for id in row
    } | pieces.indispensable
    kept: set[int] = set()
    while pending:
        id = pending.pop()
        if id not in kept:
            kept.add(id)
            pending.update(pieces.parents.get(id, ()))
    return sorted(kept)


def test_a_right_rewriting_passes(document: Document) -> None:
    kept = kept_for(document, TEXTS)
    audit_tokenizer(document, rewrite_document(document, kept), kept)


def _swap_two_tokens(document: Document) -> None:
    vocabulary = document["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary[10], vocabulary[11] = vocabulary[11], vocabulary[10]
    else:
        first, second = list(vocabulary)[10:12]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


def _lose_the_mask(document: Document) -> None:
    document["added_tokens"] = [entry for entry in document["added_tokens"] if entry["content"] != "<mask>"]


def _shift_the_closing_token(document: Document) -> None:
    document["post_processor"]["special_tokens"]["</s>"]["ids"] = [1]


def _change_the_normalizer(document: Document) -> None:
    document["normalizer"] = {"type": "Lowercase"}


@pytest.mark.parametrize(
    "sabotage", [_swap_two_tokens, _lose_the_mask, _shift_the_closing_token, _change_the_normalizer]
)
def test_a_wrong_tokenizer_fails(document: Document, sabotage: Callable[[Document], None]) -> None:
    kept = kept_for(document, TEXTS)
    wrong = copy.deepcopy(rewrite_document(document, kept))
    sabotage(wrong)
    with pytest.raises(CheckpointError, match="not right"):
        audit_tokenizer(document, wrong, kept)


def test_a_shifted_map_fails(document: Document) -> None:
    kept = kept_for(document, TEXTS)
    right = rewrite_document(document, kept)
    missing = next(id for id in range(vocabulary_size(document)) if id not in set(kept) and id > 20)
    shifted = sorted({*kept, missing} - {kept[-2]})
    with pytest.raises(CheckpointError, match="not right"):
        audit_tokenizer(document, right, shifted)


def test_a_changed_score_fails(small_documents: dict[str, Document]) -> None:
    document = small_documents["unigram"]
    kept = kept_for(document, TEXTS)
    wrong = copy.deepcopy(rewrite_document(document, kept))
    wrong["model"]["vocab"][20][1] -= 1e-6
    with pytest.raises(CheckpointError, match="score"):
        audit_tokenizer(document, wrong, kept)


@pytest.mark.parametrize("name", ["byte-level-bpe", "byte-fallback-bpe"])
def test_a_dropped_merge_ancestor_fails(small_documents: dict[str, Document], name: str) -> None:
    document = small_documents[name]
    kept, parents = kept_for(document, TEXTS), read_pieces(document).parents
    ancestor = next(
        parent
        for id in reversed(kept)
        for parent in parents.get(id, ())
        if parent in parents and parent not in read_pieces(document).indispensable
    )
    without = [id for id in kept if id != ancestor]
    with pytest.raises(CheckpointError, match="segmented otherwise"):
        audit_tokenizer(document, rewrite_document(document, without), without)


@pytest.mark.parametrize("name", ["byte-level-bpe", "byte-fallback-bpe"])
def test_a_dropped_merge_fails(small_documents: dict[str, Document], name: str) -> None:
    document = small_documents[name]
    kept = kept_for(document, TEXTS)
    wrong = copy.deepcopy(rewrite_document(document, kept))
    wrong["model"]["merges"] = wrong["model"]["merges"][20:]
    with pytest.raises(CheckpointError, match="segmented otherwise"):
        audit_tokenizer(document, wrong, kept)


def test_the_certificate_sees_a_dropped_ancestor_in_text(small_documents: dict[str, Document]) -> None:
    document = small_documents["byte-level-bpe"]
    kept = kept_for(document, TEXTS)
    pruned = copy.deepcopy(rewrite_document(document, kept))

    def judge() -> None:
        comparison = Comparison(
            Segmenter(document), Segmenter(pruned), kept, unknown_ids(document), 128, with_unknown_words=False
        )
        compare_segmentation(comparison, TEXTS, "the probe set")

    judge()
    pruned["model"]["merges"] = pruned["model"]["merges"][20:]
    with pytest.raises(CheckpointError, match="covered text"):
        judge()


@pytest.fixture(scope="module")
def written(
    small_documents: dict[str, Document], random_checkpoint: Callable[..., Checkpoint], tmp_path_factory: Any
) -> tuple[Checkpoint, Path, list[int]]:
    checkpoint = random_checkpoint(small_documents["unigram"])
    kept = kept_for(small_documents["unigram"], TEXTS)
    folder = tmp_path_factory.mktemp("pruned")
    write_pruned(make_plan(checkpoint, PruneOptions(("en",))), kept, folder)
    return checkpoint, folder, kept


def test_right_files_pass(written: tuple[Checkpoint, Path, list[int]]) -> None:
    checkpoint, folder, kept = written
    audit(checkpoint.path, folder, kept)


def test_swapped_rows_fail(written: tuple[Checkpoint, Path, list[int]], tmp_path: Path) -> None:
    checkpoint, folder, kept = written
    wrong = Path(shutil.copytree(folder, tmp_path / "wrong"))
    weights = load_file(wrong / "model.safetensors")
    table = weights["embeddings.word_embeddings.weight"]
    table[[20, 21]] = table[[21, 20]]
    save_file(weights, wrong / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="not the old row"):
        audit(checkpoint.path, wrong, kept)


def test_a_wrong_size_in_the_config_fails(
    written: tuple[Checkpoint, Path, list[int]], tmp_path: Path
) -> None:
    checkpoint, folder, kept = written
    wrong = Path(shutil.copytree(folder, tmp_path / "wrong"))
    config = json.loads((wrong / "config.json").read_text())
    (wrong / "config.json").write_text(json.dumps({**config, "vocab_size": len(kept) + 1}))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        audit(checkpoint.path, wrong, kept)


def test_a_flipped_weight_fails_the_vectors(
    written: tuple[Checkpoint, Path, list[int]], tmp_path: Path
) -> None:
    checkpoint, folder, kept = written
    comparison = Comparison(
        Segmenter(json.loads((checkpoint.path / "tokenizer.json").read_text(encoding="utf-8"))),
        Segmenter(json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))),
        kept, frozenset({3}), 128, with_unknown_words=False,
    )  # fmt: skip
    judged = {"en": compare_segmentation(comparison, TEXTS, "the probe set")}
    assert compare_vectors(checkpoint.path, folder, judged)["en"].covered_bit_identical == SAME_AT_MOST
    wrong = Path(shutil.copytree(folder, tmp_path / "wrong"))
    weights = load_file(wrong / "model.safetensors")
    weights["encoder.layer.0.output.dense.weight"][0, 0] += 1e-3
    save_file(weights, wrong / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="another vector"):
        compare_vectors(checkpoint.path, wrong, judged)
