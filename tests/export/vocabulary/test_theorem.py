"""Covered text is segmented as before, and only covered text: on random prunings, for every kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ringkas import texts as text_sets
from ringkas.export.vocabulary.certificate import unknown_ids
from ringkas.export.vocabulary.kinds import vocabulary_size
from ringkas.export.vocabulary.pieces import Pieces, read_pieces
from ringkas.export.vocabulary.rewrite import rewrite_document
from ringkas.export.vocabulary.segment import Segmenter

Document = dict[str, Any]

# What tokenizers trip over: marks, halves of emoji, unknown scripts, literal specials, runs of spaces.
ODD = [
    "",
    " ",
    "<s> <mask> </s>",
    "Ａ①ﬁ",
    "가각힣",
    "e\u0301\u0308",
    "👩\u200d👩\u200d👧",
    "𐌰𐌱 ᚠᚢ",
    "a  b\t\nc\u0085d",
    "...!?",
]


class Bench:
    """One full tokenizer, many texts through it, and the pairs that were checked."""

    def __init__(self, document: Document, texts: list[str]) -> None:
        self.document, self.texts = document, texts
        self.full = Segmenter(document)
        self.rows = list(self.full.ids(texts, special=True))
        self.pieces: Pieces = read_pieces(document)
        # WordPiece's theorem leaves out texts with unknown words.
        self.excepted = unknown_ids(document) if document["model"]["type"] == "WordPiece" else frozenset()
        self.pairs = self.covered = 0

    def closed(self, ids: set[int]) -> list[int]:
        pending, kept = list(ids | self.pieces.indispensable), set()
        while pending:
            id = pending.pop()
            if id not in kept:
                kept.add(id)
                pending.extend(self.pieces.parents.get(id, ()))
        return sorted(kept)

    def check(self, kept: list[int], texts: list[str] | None = None) -> None:
        pruned, present = Segmenter(rewrite_document(self.document, kept)), set(kept)
        rows = self.rows if texts is None else list(self.full.ids(texts, special=True))
        listed = self.texts if texts is None else texts
        for text, old, new in zip(listed, rows, pruned.ids(listed, special=True), strict=True):
            covered = present.issuperset(old)
            if self.excepted.isdisjoint(old):
                assert ([kept[id] for id in new] == old) == covered, text
            self.pairs += 1
            self.covered += covered


def random_pruning(bench: Bench, seed: int, texts: int, others: int) -> list[int]:
    """The tokens of some texts, so that these are covered, and others that compete with them."""
    chance = random.Random(seed)
    ids = {id for row in chance.sample(bench.rows, texts) for id in row}
    ids |= set(chance.sample(range(vocabulary_size(bench.document)), others))
    return bench.closed(ids)


def built_in(languages: list[str]) -> list[str]:
    return [text for listed in text_sets.probe(languages).values() for text in listed] + ODD


def test_small_vocabularies(document: Document) -> None:
    bench = Bench(document, built_in(["en", "ko", "id", "th"]))

    @settings(max_examples=60, deadline=None, database=None)
    @given(
        st.integers(0, 2**32),
        st.integers(1, 60),
        st.integers(0, 600),
        st.lists(st.text(max_size=30), max_size=8),
    )
    def holds(seed: int, texts: int, others: int, drawn: list[str]) -> None:
        kept = random_pruning(bench, seed, texts, others)
        bench.check(kept)
        bench.check(kept, drawn)

    holds()
    assert bench.covered > 1000


def test_real_xlmr_vocabulary(xlmr_tokenizer: Document, lines_of: Callable[[str], list[str]]) -> None:
    languages = ("en", "ko", "th", "id", "zh")
    bench = Bench(xlmr_tokenizer, [text for tag in languages for text in lines_of(tag)[:50]] + ODD)

    @settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.integers(0, 2**32),
        st.integers(1, 250),
        st.integers(0, 8000),
        st.lists(st.text(max_size=40), max_size=5),
    )
    def holds(seed: int, texts: int, others: int, drawn: list[str]) -> None:
        kept = random_pruning(bench, seed, texts, others)
        bench.check(kept)
        bench.check(kept, drawn)

    holds()
    assert bench.pairs >= 20_000
    assert bench.covered >= 5_000


def test_real_gemma_vocabulary(gemma_tokenizer: Document, lines_of: Callable[[str], list[str]]) -> None:
    bench = Bench(gemma_tokenizer, [text for tag in ("en", "ko", "th") for text in lines_of(tag)[:30]] + ODD)
    for seed in range(6):
        bench.check(random_pruning(bench, seed, 20 + 10 * seed, 3000))
    assert bench.covered > 100


def test_the_check_can_fail(document: Document) -> None:
    """A vocabulary with one score, merge or piece changed is not taken for a right one."""
    bench = Bench(document, built_in(["en", "ko"]))
    kept = bench.closed({id for row in bench.rows for id in row})
    bench.check(kept)
    right = rewrite_document(document, kept)
    model = dict(right["model"])
    if model["type"] == "Unigram":
        # The cheapest letter becomes the dearest: words that were pieces fall apart.
        model["vocab"] = [[piece, 50.0 if piece in ("e", "이") else score] for piece, score in model["vocab"]]
    elif model["type"] == "BPE":
        model["merges"] = model["merges"][50:]
    else:
        swapped = dict(model["vocab"])
        swapped["e"], swapped["t"] = swapped["t"], swapped["e"]
        model["vocab"] = swapped
    wrong = Segmenter({**right, "model": model})
    assert any(
        [kept[id] for id in new] != old
        for old, new in zip(bench.rows, wrong.ids(bench.texts, special=True), strict=True)
    )
