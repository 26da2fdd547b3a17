"""A batch end to end instead of padded, and the bucket of sizes that it is rounded up to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ringkas.tokens import TokenBatch

# A bucket's tokens are rounded up to this, and above it to an eighth of the power of two below.
_FEWEST_TOKENS = 16

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Bucket:
    """The sizes of one captured graph: batches are rounded up to it."""

    tokens: int
    texts: int
    longest: int


def bucket_of(tokens: int, texts: int, longest: int) -> Bucket:
    """The smallest bucket that holds a batch. Tokens decide the cost, so their steps are fine."""
    step = max(_FEWEST_TOKENS, _power_of_two(tokens + 1) // 16)
    return Bucket(-(-max(tokens, 1) // step) * step, _power_of_two(texts), _power_of_two(longest))


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()


@dataclass(frozen=True)
class Packed:
    """A batch end to end. `ids` and `positions` have shape (tokens,), `bounds` (texts + 1,): all int32."""

    ids: Ids
    positions: Ids
    bounds: Ids

    @property
    def bucket(self) -> Bucket:
        lengths = np.diff(self.bounds)
        return bucket_of(len(self.ids), len(lengths), int(lengths.max(initial=1)))

    def filled(self, bucket: Bucket) -> Ids:
        """All three in one row, rounded up: texts that are added are empty, tokens belong to no text."""
        row = np.zeros(2 * bucket.tokens + bucket.texts + 1, dtype=np.int32)
        row[: len(self.ids)] = self.ids
        row[bucket.tokens : bucket.tokens + len(self.positions)] = self.positions
        row[2 * bucket.tokens :] = self.bounds[-1]
        row[2 * bucket.tokens : 2 * bucket.tokens + len(self.bounds)] = self.bounds
        return row


def pack(batch: TokenBatch, first_position: int) -> Packed:
    """`batch` without its padding; each text's positions count from `first_position`."""
    present = batch.attention_mask.astype(bool)
    lengths = present.sum(axis=1)
    bounds = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=bounds[1:])
    positions = np.arange(bounds[-1], dtype=np.int32) - np.repeat(bounds[:-1], lengths)
    return Packed(
        batch.input_ids[present].astype(np.int32), (positions + first_position).astype(np.int32), bounds
    )
