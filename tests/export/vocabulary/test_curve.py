"""The picture of rows against unchanged texts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringkas.checkpoint import Checkpoint
from ringkas.errors import MissingExtra, RingkasError
from ringkas.export.vocabulary.curve import plot_checkpoint, vocabulary_curve
from ringkas.export.vocabulary.plot import check_place
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


@pytest.mark.parametrize(
    ("name", "said"),
    [("rows.svg", r"rows\.svg does not end in \.png. Name a"), ("absent/rows.png", r"no folder .*absent")],
)
def test_a_place_that_cannot_be_drawn_into_says_what_to_do(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(RingkasError, match=said):
        check_place(tmp_path / name)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"ringkas\[plot\]"):
        check_place(tmp_path / "rows.png")
