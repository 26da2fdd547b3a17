"""Whether a piece is spelt as a language spells is told by the language's words."""

from __future__ import annotations

import numpy as np

from ringkas.export.vocabulary.languages import words_of
from ringkas.export.vocabulary.spelling import likelihood_ratios

HUNGARIAN = ("hozatal", "vállalás", "egészség", "szerződés")
OTHERS = ("ciens", "mbuk", "skeho", "tradiční", "gouver", "wicklung")


def test_pieces_of_the_language_come_before_those_of_others() -> None:
    surfaces = (*HUNGARIAN, *OTHERS)
    shares = likelihood_ratios(surfaces, np.full(len(surfaces), 0.1), words_of("hu"))
    assert shares[: len(HUNGARIAN)].min() > shares[len(HUNGARIAN) :].max()
    # The twin: by the words of Polish they do not.
    polish = likelihood_ratios(surfaces, np.full(len(surfaces), 0.1), words_of("pl"))
    assert polish[: len(HUNGARIAN)].min() < polish[len(HUNGARIAN) :].max()


def test_capitals_spell_as_small_letters_do_and_short_pieces_say_nothing() -> None:
    shares = likelihood_ratios(("szer", "SZER", "sz", "s", ""), np.full(5, 0.2), words_of("hu"))
    assert shares[0] == shares[1]
    assert shares[2:].tolist() == [1.0, 1.0, 1.0]


def test_no_words_and_no_pieces_are_no_error() -> None:
    assert likelihood_ratios((), np.zeros(0), words_of("hu")).shape == (0,)
    assert np.isfinite(likelihood_ratios(("szer",), np.ones(1), {})).all()
