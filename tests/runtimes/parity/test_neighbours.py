"""One rule for nearest texts: ties of the reference may change places, others may not."""

from __future__ import annotations

import numpy as np
import pytest

from ringkas.runtimes.parity.neighbours import share_kept, similarities


def test_a_tie_may_change_places_and_a_neighbour_may_not() -> None:
    reference = np.array([[0.9, 0.8, 0.8 - 5e-6, 0.1]])
    assert share_kept(reference, np.array([[0.9, 0.1, 0.8, 0.2]]), 2) == 1.0
    assert share_kept(reference, np.array([[0.9, 0.1, 0.2, 0.8]]), 2) == 0.5
    assert share_kept(reference, np.array([[0.1, 0.2, 0.3, 0.4]]), 4) == 1.0


def test_similarities_are_cosines_and_zero_is_near_nothing() -> None:
    chance = np.random.default_rng(0)
    x, y = chance.normal(size=(3, 5)), chance.normal(size=(4, 5))
    y[1] = 0
    expected = [[a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12) for b in y] for a in x]
    np.testing.assert_allclose(similarities(x, y), expected, atol=1e-12)
    assert similarities(x, y)[0, 1] == pytest.approx(0.0)
