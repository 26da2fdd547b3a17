"""How often each token occurs in a user's corpus, and in text like it.

A corpus is streamed. Its words are counted first and each distinct one is segmented once, since what stands
between spaces is segmented on its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import numpy as np

from ringkas.errors import TextError
from ringkas.export.vocabulary.pieces import Weights
from ringkas.export.vocabulary.segment import Segmenter, TokenRows, chunks, segment_rows
from ringkas.text_files import iterate_texts
from ringkas.texts import split_corpus

CALIBRATION_LIMIT = 512  # texts of a corpus that may calibrate; schemes take of them what they need
# Texts of a corpus that the certificate judges, and as many others that it predicts by: enough for a share to
# half of one percent.
HELD_OUT_LIMIT = 2000

_LINES_AT_ONCE = 20_000
_WORDS_AT_ONCE = 20_000
_DISTINCT_AT_ONCE = 500_000

# Tokens that text in general may be worth behind a corpus, the most first.
_WORTHS = 10.0 ** np.arange(8.0, 0.5, -0.5)


@dataclass
class CorpusCounts:
    """Token counts of the part of a corpus that chooses; texts of the part that judges (`held_out`) and of
    the third, which predict (`set_aside`)."""

    counts: Weights
    texts: int = 0
    held_out: list[str] = field(default_factory=list)
    held_out_texts: int = 0
    set_aside: list[str] = field(default_factory=list)

    @property
    def tokens(self) -> float:
        return float(self.counts.sum())


def count_corpus(files: Iterable[Path], segmenter: Segmenter, size: int) -> CorpusCounts:
    """Counts the tokens (of `size` kinds) of the corpus in `files`, of any format that text_files.py reads.

    Raises:
        TextError: a file cannot be read, is not UTF-8, or holds no text.
    """
    found = CorpusCounts(np.zeros(size))
    with ThreadPoolExecutor(1) as beside:
        words = _Words(segmenter, beside)
        for file in files:
            before = found.texts + found.held_out_texts
            for lines in chunks(read_lines(file), _LINES_AT_ONCE):
                parts = split_corpus(lines)
                found.texts += len(parts["select"])
                found.held_out_texts += len(parts["held_out"])
                found.held_out += parts["held_out"][: HELD_OUT_LIMIT - len(found.held_out)]
                found.set_aside += parts["calibrate"][: HELD_OUT_LIMIT - len(found.set_aside)]
                words.add(" ".join(parts["select"]))
                if len(words) > _DISTINCT_AT_ONCE:
                    found.counts += words.token_counts(size)
                    words = _Words(segmenter, beside)
            if found.texts + found.held_out_texts == before:
                raise TextError(f"{file} holds no text", why="a corpus chooses by what it holds")
        found.counts += words.token_counts(size)
    return found


def smoothed(counts: Weights, general: Weights) -> Weights:
    """The frequency of each token in text like that of `counts`; sums to about one.

    The frequencies in text in `general` stand behind the counts as so many tokens more (a Dirichlet prior):
    as many as make each token of the corpus likeliest by all the others of it, so that a small or scattered
    corpus says little by itself and a large, even one nearly everything. See MacKay and Peto, A hierarchical
    Dirichlet language model, 1995; here by leaving one out.
    """
    seen = (counts > 0) & (general > 0)  # what general text lacks is foretold by no prior
    if not seen.any():
        return general
    occurred, behind, total = counts[seen], general[seen], counts[seen].sum()
    likelihoods = [
        float(occurred @ (np.log(np.maximum(occurred - 1, 0) + worth * behind) - np.log(total - 1 + worth)))
        for worth in _WORTHS
    ]
    worth = _WORTHS[int(np.argmax(likelihoods))]
    mixed: Weights = (counts + worth * general) / (counts.sum() + worth)
    return mixed


def calibration_texts(files: Iterable[Path]) -> tuple[str, ...]:
    """The first texts of a corpus that neither choose tokens nor judge: those that may calibrate.

    Raises:
        TextError: a file cannot be read or is not UTF-8.
    """
    lines = chain.from_iterable(map(read_lines, files))
    mine = (line for line in lines if split_corpus([line])["calibrate"])
    return tuple(islice(mine, CALIBRATION_LIMIT))


class _Words:
    """Distinct words and how often each occurs; new ones are segmented beside the counting.

    The tokenizer does most of its work outside the interpreter, while this thread reads and counts.
    """

    def __init__(self, segmenter: Segmenter, beside: ThreadPoolExecutor) -> None:
        self._segmenter, self._beside = segmenter, beside
        self._occurrences: Counter[str] = Counter()
        self._segmented: list[Future[TokenRows]] = []
        self._submitted = 0

    def __len__(self) -> int:
        return len(self._occurrences)

    def add(self, text: str) -> None:
        self._occurrences.update(text.split())
        if len(self) - self._submitted >= _WORDS_AT_ONCE:
            self._submit()

    def token_counts(self, size: int) -> Weights:
        """How often each of `size` tokens occurs in all words."""
        self._submit()
        counts: Weights = np.zeros(size)
        occurrences = np.fromiter(self._occurrences.values(), np.float64, len(self))
        start = 0
        for future in self._segmented:
            rows = future.result()
            end = start + len(rows.lengths)
            counts += rows.spread(occurrences[start:end], size)
            start = end
        return counts

    def _submit(self) -> None:
        # A dictionary keeps its order, so the new words are the last ones.
        new = list(islice(self._occurrences, self._submitted, None))
        self._submitted = len(self)
        self._segmented.append(self._beside.submit(segment_rows, self._segmenter, new))


def read_lines(file: Path) -> Iterator[str]:
    """The texts of a corpus file (text_files.py), one at a time; blank lines are skipped.

    Raises:
        TextError: it cannot be read, is not UTF-8, or a row has no `text`.
    """
    return map(str.strip, iterate_texts(file, skip_blank=True))
