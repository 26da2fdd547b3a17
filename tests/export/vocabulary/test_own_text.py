"""A corpus gains for its own text what text in general can bear, and no more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ringkas.export.vocabulary import own_text
from ringkas.export.vocabulary.counting import smoothed
from ringkas.export.vocabulary.pieces import Mask, Pieces, Weights
from ringkas.export.vocabulary.select import Limits, choose
from ringkas.export.vocabulary.usage import Usage

SIZE, ROWS = 4000, Limits(max_tokens=1500)
MUST: Mask = np.zeros(SIZE, dtype=np.bool_)


def zipf(order: Weights) -> Weights:
    ranked = np.empty(SIZE)
    ranked[np.argsort(order)] = 1.0 / (1.0 + np.arange(SIZE))
    return ranked / ranked.sum()


@pytest.fixture(scope="module")
def usage() -> Usage:
    """Two languages that share all tokens; the corpus of one has an order of its own, akin to the general."""
    chance = np.random.default_rng(0)
    general, other = chance.normal(size=SIZE), chance.normal(size=SIZE)
    own = general + 0.7 * chance.normal(size=SIZE)
    return Usage({"x": zipf(general), "y": zipf(other)}, {"x": 20.0, "y": 30.0}, {"x": zipf(own)})


@pytest.fixture(scope="module")
def pieces() -> Pieces:
    return Pieces(("ab",) * SIZE, np.full(SIZE, 1 / SIZE), frozenset(), {})


def losses(usage: Usage, kept: Mask) -> tuple[float, dict[str, float]]:
    assert kept.sum() == ROWS.max_tokens
    return float(usage.corpora["x"][~kept].sum()), usage.lost(kept)


def test_the_corpus_gains_and_no_language_s_general_text_loses_more_than_is_tolerated(
    usage: Usage, pieces: Pieces
) -> None:
    alone = choose(pieces, replace(usage, corpora={}), MUST, ROWS)
    kept = choose(pieces, usage, MUST, ROWS)
    (own_before, before), (own_after, after) = losses(usage, alone), losses(usage, kept)
    assert own_after < 0.96 * own_before
    for tag, lost in before.items():
        assert after[tag] <= 1.02 * lost + 3e-6
    # It goes as far as it may.
    assert max(after[tag] / lost for tag, lost in before.items()) > 1.015


def test_without_the_bound_general_text_pays(
    usage: Usage, pieces: Pieces, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = losses(usage, choose(pieces, replace(usage, corpora={}), MUST, ROWS))
    monkeypatch.setattr(own_text, "TOLERATED", np.inf)
    own, unbounded = losses(usage, choose(pieces, usage, MUST, ROWS))
    assert max(unbounded[tag] / lost for tag, lost in before.items()) > 1.3
    monkeypatch.setattr(own_text, "TOLERATED", 0.0)
    careful, bounded = losses(usage, choose(pieces, usage, MUST, ROWS))
    assert careful > own
    assert all(bounded[tag] <= lost + 3e-6 for tag, lost in before.items())


def test_both_kinds_of_text_reach_a_coverage(usage: Usage, pieces: Pieces) -> None:
    kept = choose(pieces, usage, MUST, Limits(coverage=0.9))
    assert all(weights[kept].sum() >= 0.9 for weights in usage.every())
    fewer = choose(pieces, replace(usage, corpora={}), MUST, Limits(coverage=0.9))
    assert fewer.sum() < kept.sum()


@pytest.mark.parametrize(("tokens", "nearer"), [(30, "general"), (300_000, "corpus")])
def test_a_corpus_says_as_much_as_it_is_large(usage: Usage, tokens: int, nearer: str) -> None:
    general, own = usage.by_language["x"], usage.corpora["x"]
    counts = np.random.default_rng(1).multinomial(tokens, own).astype(np.float64)
    mixed = smoothed(counts, general)
    assert mixed.sum() == pytest.approx(1.0)
    assert (mixed > 0).all()  # what the corpus happens not to have is not impossible
    to_general, to_own = (float(np.abs(mixed - one).sum()) for one in (general, own))
    assert (to_general < to_own) == (nearer == "general")


def test_the_weight_of_general_text_foretells_the_corpus_best(usage: Usage) -> None:
    """Each token left out in turn, by a plain loop; and text of the same kind that was not counted agrees."""
    general, own = usage.by_language["x"], usage.corpora["x"]
    chance = np.random.default_rng(2)
    counts, fresh = (chance.multinomial(3000, own).astype(np.float64) for _ in range(2))
    mixed = smoothed(counts, general)
    unseen = np.argmax(np.where(counts == 0, general, 0.0))
    worth = float(mixed[unseen] * 3000 / (general[unseen] - mixed[unseen]))

    def left_out(worth: float) -> float:
        return sum(
            count * np.log((count - 1 + worth * general[id]) / (counts.sum() - 1 + worth))
            for id, count in enumerate(counts)
            if count
        )

    assert left_out(worth) >= max(left_out(worth * 10**0.5), left_out(worth / 10**0.5))
    likelihood = [float(fresh @ np.log(one)) for one in (mixed, general, (counts + general) / 3001)]
    assert likelihood[0] == max(likelihood)


def test_nothing_counted_says_nothing(usage: Usage) -> None:
    general = usage.by_language["x"]
    assert np.array_equal(smoothed(np.zeros(SIZE), general), general)
