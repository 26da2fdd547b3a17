"""A SentencePiece file cut to some pieces segments as before, in SentencePiece itself."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringkas import texts as text_sets
from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError
from ringkas.export.vocabulary.prune import PruneOptions, make_plan, write_pruned
from ringkas.export.vocabulary.spm import keep_pieces, pieces

spm = pytest.importorskip("sentencepiece", reason="compares with SentencePiece, which is not installed")
TEXTS = [text for listed in text_sets.calibration(["en", "id", "ko"]).values() for text in listed]


@pytest.fixture(scope="module")
def model() -> bytes:
    output = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3),
        model_writer=output,
        vocab_size=900,
        minloglevel=2,
        character_coverage=1.0,
    )
    return output.getvalue()


def load(model: bytes) -> Any:
    return spm.SentencePieceProcessor(model_proto=model)


def test_pieces_are_read_as_sentencepiece_reads_them(model: bytes) -> None:
    full = load(model)
    assert pieces(model) == [full.id_to_piece(id) for id in range(full.get_piece_size())]


def test_covered_text_is_segmented_alike(model: bytes) -> None:
    full, chosen = load(model), TEXTS[:40]
    lowest = min(range(3, full.get_piece_size()), key=full.get_score)
    kept = {piece for text in chosen for piece in full.encode(text, out_type=str)} | {
        full.id_to_piece(lowest)
    }
    pruned = load(keep_pieces(model, kept))
    assert pruned.get_piece_size() < full.get_piece_size()
    assert all(pruned.encode(text, out_type=str) == full.encode(text, out_type=str) for text in chosen)
    dropped = max(full.encode(chosen[0], out_type=str), key=len)
    broken = load(keep_pieces(model, kept - {dropped}))
    assert broken.encode(chosen[0], out_type=str) != full.encode(chosen[0], out_type=str)


def test_a_damaged_file_is_named(model: bytes) -> None:
    with pytest.raises(CheckpointError, match="SentencePiece"):
        keep_pieces(model[:-3], set())


def test_a_stale_file_is_rewritten_or_removed(
    small_documents: dict[str, Any],
    random_checkpoint: Callable[..., Checkpoint],
    tmp_path: Path,
    model: bytes,
) -> None:
    for name, note in (("unigram", "was cut"), ("byte-fallback-bpe", "was removed")):
        document = small_documents[name]
        checkpoint = random_checkpoint(document)
        (checkpoint.path / "sentencepiece.bpe.model").write_bytes(model)
        folder = tmp_path / name
        folder.mkdir()
        kept = [*range(700), len(document["model"]["vocab"])]
        notes = write_pruned(make_plan(checkpoint, PruneOptions(("id",))), kept, folder)
        assert [line for line in notes if line.startswith(f"sentencepiece.bpe.model {note}")]
        assert (folder / "sentencepiece.bpe.model").is_file() == (name == "unigram")
    known = {piece for piece, _ in small_documents["unigram"]["model"]["vocab"][:700]}
    assert set(pieces((tmp_path / "unigram" / "sentencepiece.bpe.model").read_bytes())[3:]) <= known
