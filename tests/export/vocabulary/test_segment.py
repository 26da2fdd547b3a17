"""Many words segmented as one text: the same as each alone, whatever the words do to a text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ringkas.export.vocabulary.segment import Segmenter, TokenRows, segment_rows, token_rows

# What becomes a space, becomes nothing, spells a space mark or a special token.
ODD = ["a´b", "\u200bx", "▁y", "x▁y", "\u200b", "…", "ﬁ", "ａ　ｂ", "<s>", "</s>", "x<pad>y", "don't", "a-b",
       "[UNK]", "\ufe0f", "ﷺ", "\u3164", "Ġa", "\u00ad", "."]  # fmt: skip


def same(one: TokenRows, other: TokenRows) -> bool:
    return np.array_equal(one.ids, other.ids) and np.array_equal(one.lengths, other.lengths)


def alone(segmenter: Segmenter, words: list[str]) -> TokenRows:
    return token_rows(list(segmenter.ids(" " + word for word in words)))


def test_words_of_small_vocabularies(document: dict[str, Any]) -> None:
    segmenter = Segmenter(document)
    words = [*ODD, "the", "quick", "brown", "fox", "jumps", "over", "12", "lazy", "dogs", *ODD] * 5
    assert same(segment_rows(segmenter, words), alone(segmenter, words))


@pytest.mark.parametrize("vocabulary", ["xlmr_tokenizer", "gemma_tokenizer"])
@pytest.mark.parametrize("language", ["en", "ko", "ta", "th"])
def test_words_of_real_text(
    request: pytest.FixtureRequest, lines_of: Callable[[str], list[str]], vocabulary: str, language: str
) -> None:
    segmenter = Segmenter(request.getfixturevalue(vocabulary))
    words = list(dict.fromkeys(word for text in [*lines_of(language), *ODD] for word in text.split()))
    assert same(segment_rows(segmenter, words), alone(segmenter, words))


def test_without_the_check_odd_words_are_taken_apart_wrongly(small_documents: dict[str, Any]) -> None:
    segmenter = Segmenter(small_documents["unigram"])
    words = ["the", "x▁y", "dog"]
    joined = next(segmenter.ids([" " + " ".join(words)]))
    begins = segmenter.begins_word[joined]
    assert begins.sum() != len(words)  # so that a split at what begins a word would give four words
