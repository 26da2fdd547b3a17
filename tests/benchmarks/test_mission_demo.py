"""The demonstration: its questions cross languages, and its search finds what is nearest."""

from __future__ import annotations

from collections import Counter

import mission_demo as demo
import numpy as np
import numpy.typing as npt


def test_every_question_is_answered_in_the_other_language() -> None:
    for asked in demo.QUESTIONS:
        assert demo.is_korean(asked.text) != demo.is_korean(demo.PASSAGES[asked.answer])
    assert sorted(asked.answer for asked in demo.QUESTIONS) == list(range(len(demo.PASSAGES)))
    assert set(Counter(map(demo.is_korean, demo.PASSAGES)).values()) == {5}


class _Rotated:
    """Puts the answer of question n at the nth axis, turned on by `shift`."""

    def __init__(self, shift: int) -> None:
        self.shift = shift

    def encode_query(self, texts: list[str]) -> npt.NDArray[np.float32]:
        return np.eye(len(texts), dtype=np.float32)

    def encode_document(self, texts: list[str]) -> npt.NDArray[np.float32]:
        return np.roll(np.eye(len(texts), dtype=np.float32), self.shift, axis=0)


def test_find_returns_the_nearest_passage_of_the_other_language() -> None:
    count = len(demo.PASSAGES)
    assert demo.find(_Rotated(0)) == [(row, 1.0) for row in range(count)]
    assert demo.right(demo.find(_Rotated(0))) == count
    assert demo.find(_Rotated(3), everywhere=True) == [((row + 3) % count, 1.0) for row in range(count)]
    for row, (place, _) in enumerate(demo.find(_Rotated(3))):
        assert demo.is_korean(demo.PASSAGES[place]) != demo.is_korean(demo.QUESTIONS[row].text)
    assert demo.right(demo.find(_Rotated(3))) < count
