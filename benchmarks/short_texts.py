"""Short texts of about 8 tokens, out of real sentences: runs of 4 to 7 neighbouring words.

The sentences are the built-in English ones, and those of a file where one is named. Every run of words that
there is comes once, in an order drawn with a fixed seed; when they are used up the order starts again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

from ringkas import texts

LENGTHS = (4, 5, 6, 7)


def sentences(file: Path | None = None) -> list[str]:
    """Real English sentences."""
    if file is not None:
        return file.read_text(encoding="utf-8").splitlines()
    return [*texts.probe(["en"])["en"], *texts.calibration(["en"])["en"]]


def short_texts(count: int, file: Path | None = None) -> Iterator[str]:
    """`count` of them."""
    runs = {
        " ".join(words[start : start + length])
        for words in (sentence.split() for sentence in sentences(file))
        for length in LENGTHS
        for start in range(max(1, len(words) - length + 1))
    }
    ordered = sorted(runs)
    random.Random(0).shuffle(ordered)
    return islice(cycle(ordered), count)
