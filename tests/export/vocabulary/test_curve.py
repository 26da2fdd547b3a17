"""The picture of rows against unchanged texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringkas.checkpoint import Checkpoint
from ringkas.export.vocabulary.curve import plot_checkpoint, vocabulary_curve
from ringkas.export.vocabulary.prune import PruneOptions, make_plan


def test_more_rows_never_change_more_texts(
    small_documents: dict[str, Any], random_checkpoint: Callable[..., Checkpoint], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="drawing needs the extra [plot]")
    plan = make_plan(random_checkpoint(small_documents["unigram"]), PruneOptions(("id", "ko")))
    curve = vocabulary_curve(plan)
    assert set(curve.identical) == {"id", "ko"}
    for shares in curve.identical.values():
        assert list(shares) == sorted(shares)
        assert shares[0] < shares[-1] == 1.0
    plot_checkpoint(plan, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
