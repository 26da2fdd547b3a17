"""Texts over the model's limit: cut and counted, refused, or encoded in overlapping windows.

What bulk embedding and the server share: texts to rows of ids that the engine may be given, and the rows'
vectors back to one vector a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from ringkas.errors import TextError
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Vectors

LongTexts = Literal["truncate", "window", "error"]
LONG_TEXTS: tuple[LongTexts, ...] = get_args(LongTexts)
# Tokens that two neighbouring windows share: enough for a sentence that the cut would part.
OVERLAP = 32


@dataclass(frozen=True)
class Rows:
    """Token ids for the engine, at most `max_length` a row, special tokens included.

    Args:
        ids: the rows; a text in windows has several, one after another.
        owners: the text of each row; None where row n is text n.
        tokens: of all texts, as far as they are encoded.
        long: how many texts were over the limit.
    """

    ids: Sequence[Sequence[int]]
    owners: Sequence[int] | None
    texts: int
    tokens: int
    long: int
    pooled_from: int = 0


class RowMaker:
    """Turns texts into rows, for one encoder, prompt and policy. Safe to share between threads."""

    def __init__(self, encoder: Encoder, prompt: str | None, policy: LongTexts) -> None:
        self.prefix, self._pooled_from = encoder.prompt_of(prompt)
        self._policy = policy
        self._tokenizer, self._limit = encoder.tokenizer, encoder.tokenizer.max_length
        self._before, self._after = self._tokenizer.special_counts()
        # The prompt stands in every window, as it stands before every text.
        self._head = self._before
        if policy == "window" and self.prefix:
            self._head = self._tokenizer.prompt_length(self.prefix)
        self._room = self._limit - self._head - self._after
        if policy == "window" and self._room <= OVERLAP:
            raise TextError(
                f"the model's {self._limit} tokens are too few for windows",
                why=f"neighbours share {OVERLAP} tokens, and special tokens and the prompt take their own",
                fix="Let long texts be truncated",
            )

    def rows(self, texts: Sequence[str]) -> Rows:
        """The rows of `texts`, which must be valid UTF-8 strings.

        Raises:
            TextError: one is over the limit, and the policy is `error`.
        """
        if not texts:
            return Rows([], None, 0, 0, 0, self._pooled_from)
        prefixed = [self.prefix + text for text in texts] if self.prefix else texts
        parts = self._tokenizer.encode_parts(prefixed)
        long = [position for position, one in enumerate(parts) if len(one) > 1]
        if long and self._policy == "error":
            raise TextError(
                f"text {long[0]} has more than the model's {self._limit} tokens",
                fix="Shorten it, or choose what to do with long texts: truncate or window",
            )
        if not long or self._policy == "truncate":
            ids = [one[0] for one in parts]
            return Rows(ids, None, len(ids), sum(map(len, ids)), len(long), self._pooled_from)
        rows: list[list[int]] = []
        owners: list[int] = []
        for owner, one in enumerate(parts):
            windows = self._windows(one) if len(one) > 1 else one
            rows += windows
            owners += [owner] * len(windows)
        return Rows(rows, owners, len(parts), sum(map(len, rows)), len(long), self._pooled_from)

    def _windows(self, parts: Sequence[Sequence[int]]) -> list[list[int]]:
        first, before, after = parts[0], self._before, self._after
        whole = [id for part in parts for id in part[before : len(part) - after]]
        head, tail = list(first[: self._head]), list(first[len(first) - after :])
        body = whole[self._head - before :]
        step = self._room - OVERLAP
        # The last window begins where what is left fits.
        starts = range(0, max(1, len(body) - OVERLAP), step)
        return [[*head, *body[start : start + self._room], *tail] for start in starts]


def encode_rows(encoder: Encoder, rows: Rows, batch_tokens: int | None = None) -> Vectors:
    """One vector a text: float32 of shape (texts, dimension)."""
    return join_windows(encoder, rows, encoder.encode_ids(rows.ids, batch_tokens, rows.pooled_from))


def join_windows(encoder: Encoder, rows: Rows, vectors: Vectors) -> Vectors:
    """The mean of each text's windows, weighted by their tokens, and normalised where the artifact's are."""
    if rows.owners is None:
        return vectors
    weights = np.array([len(row) for row in rows.ids], dtype=np.float32)
    sums = np.zeros((rows.texts, vectors.shape[1]), dtype=np.float32)
    totals = np.zeros(rows.texts, dtype=np.float32)
    np.add.at(sums, rows.owners, vectors * weights[:, None])
    np.add.at(totals, rows.owners, weights)
    alone = np.bincount(rows.owners, minlength=rows.texts) == 1
    means = sums / totals[:, None]
    if encoder.spec.normalize:
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    means[alone] = vectors[alone[np.asarray(rows.owners)]]  # a text in one window keeps its bits
    return np.ascontiguousarray(means, dtype=np.float32)
