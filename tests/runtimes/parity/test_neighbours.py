"""One rule for nearest texts: ties of the reference may change places, others may not."""

from __future__ import annotations

import numpy as np
import pytest

from ringkas.runtimes.parity.neighbours import rounded_alike, share_kept, similarities


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


@pytest.mark.parametrize("stored", [True, False])
def test_a_stored_reference_changes_no_neighbours_by_its_rounding(stored: bool) -> None:
    """Among a thousand some are nearly ties; and the twin: not rounded alike, those change."""
    vectors = np.random.default_rng(0).normal(size=(1000, 32)).astype(np.float32)
    reference = vectors.astype(np.float16).astype(np.float32)
    candidate = rounded_alike(vectors, reference) if stored else vectors
    near, own = similarities(reference, reference), similarities(candidate, candidate)
    assert (share_kept(near, own) == 1.0) == stored


def test_only_what_was_stored_is_rounded_and_nothing_overflows() -> None:
    vectors = np.array([[0.1, 1e9]], dtype=np.float32)
    assert rounded_alike(vectors, vectors) is vectors
    assert np.isfinite(rounded_alike(vectors, np.array([[0.5, 1.0]], dtype=np.float32))).all()
