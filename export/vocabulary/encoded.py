"""The pruned model's vectors beside the full one's: equal on covered texts, near on the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ringkas.errors import CheckpointError
from ringkas.export.vocabulary.certificate import LanguageReport, Segmented, similarity
from ringkas.runtimes.encoder import load_reference_encoder

# Texts encoded a language: changed ones for their cosine, unchanged ones to see that not one bit differs.
CHANGED_AT_MOST, SAME_AT_MOST = 64, 2

_Vectors = npt.NDArray[np.float32]


def compare_vectors(full: Path, pruned: Path, judged: Mapping[str, Segmented]) -> dict[str, LanguageReport]:
    """The reports with cosines, from the reference encoders of both folders, one after the other.

    Raises:
        CheckpointError: a text that is segmented as before has another vector.
    """
    changed = {tag: texts.changed[:CHANGED_AT_MOST] for tag, texts in judged.items()}
    same = {tag: _short(texts.same)[:SAME_AT_MOST] for tag, texts in judged.items()}
    # In batches of their own, so that both models get the same shapes and round alike.
    flat_changed, flat_same = _flat(changed), _flat(same)
    before = _encode(full, flat_changed, flat_same)
    after = _encode(pruned, flat_changed, flat_same)
    _check_equal(flat_same, before[1], after[1])
    everything = np.concatenate(before)
    reports, start = {}, 0
    for tag, segmented in judged.items():
        end = start + len(changed[tag])
        rows = slice(start, end)
        reports[tag] = msgspec.structs.replace(
            segmented.report,
            changed=similarity(before[0][rows], after[0][rows], everything) if end > start else None,
            covered_bit_identical=len(same[tag]),
        )
        start = end
    return reports


def _encode(folder: Path, changed: Sequence[str], same: Sequence[str]) -> list[_Vectors]:
    with load_reference_encoder(folder) as encoder:
        return [np.asarray(encoder.encode(texts, prompt=""), dtype=np.float32) for texts in (changed, same)]


def _check_equal(texts: Sequence[str], before: _Vectors, after: _Vectors) -> None:
    for text, left, right in zip(texts, before, after, strict=True):
        if left.tobytes() != right.tobytes():
            raise CheckpointError(
                f"the pruned checkpoint gives another vector for a covered text: {text[:60]!r}",
                why="its tokens are the same, so a row of the table or a weight is wrong",
                fix="Nothing was written; please report it",
            )


def _short(texts: Sequence[str]) -> list[str]:
    """The shorter ones, without the very shortest: enough tokens to tell, and quick on a large model."""
    return sorted(texts, key=len)[len(texts) // 4 :]


def _flat(texts: Mapping[str, Sequence[str]]) -> list[str]:
    return [text for listed in texts.values() for text in listed]
