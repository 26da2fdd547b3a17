"""What a changed text costs, in figures that fall when vectors are swapped."""

from __future__ import annotations

import numpy as np
import pytest

from ringkas.export.vocabulary.certificate import similarity


def test_a_changed_text_s_cosine_and_neighbours() -> None:
    chance = np.random.default_rng(0)
    full = chance.normal(size=(60, 32)).astype(np.float32)
    near = (full[:20] + 0.02 * chance.normal(size=(20, 32))).astype(np.float32)
    same, moved, swapped = (similarity(full[:20], vectors, full) for vectors in (full[:20], near, near[::-1]))
    assert (same.minimum, same.top10_overlap) == (1.0, 1.0)
    assert moved.mean > 0.99
    assert moved.top10_overlap == pytest.approx(1.0, abs=0.1)
    assert swapped.mean < 0.2
    assert swapped.top10_overlap is not None
    assert swapped.top10_overlap < 0.4
    assert similarity(full[:20], near, full[:19]).top10_overlap is None
