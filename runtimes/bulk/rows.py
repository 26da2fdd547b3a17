"""Rows of the input: what is wrong with one, and windows of them that never cross a shard."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

# What is tokenised and batched at a time: enough texts that batches of one length fill, few enough that
# memory stays flat. The bytes bound it where the texts are long.
WINDOW_ROWS = 4096
WINDOW_BYTES = 4 << 20
MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class Bad:
    """Stands for a text that cannot be encoded, and says why."""

    reason: str


@dataclass(frozen=True)
class Block:
    """Neighbouring rows as a reader gives them.

    Args:
        first: the number of the first row in the whole input, from 0.
        texts: the values of the text column, whatever they are; a `Bad` where the reader found none.
        carried: a pyarrow table of the columns to carry along, one row a text; None for none.
        fraction: of the whole input, what has been read after this block.
    """

    first: int
    texts: Sequence[Any]
    carried: pa.Table | None = None
    fraction: float = 0.0


@dataclass(frozen=True)
class BadRow:
    """A row that has no vector."""

    row: int
    reason: str


@dataclass(frozen=True)
class Window:
    """Rows to encode together, all of one shard.

    Args:
        shard: its number.
        rows: the numbers of the rows that have a text.
        texts: theirs.
        carried: their other columns.
        bad: the rows between them that have none.
        fraction: of the whole input, what has been read with it.
    """

    shard: int
    rows: Sequence[int]
    texts: Sequence[str]
    carried: pa.Table | None
    bad: Sequence[BadRow]
    fraction: float


def problem_of(value: Any, max_bytes: int = MAX_BYTES) -> str | None:
    """Why `value` cannot be encoded; None for a text that can."""
    if isinstance(value, Bad):
        return value.reason
    if value is None:
        return "the text is null"
    if not isinstance(value, str):
        return f"the text is {type(value).__name__}, not a string"
    if value.isascii():
        size = len(value)
    else:
        try:
            size = len(value.encode("utf-8"))
        except UnicodeEncodeError as error:
            found = ord(value[error.start])
            return f"the text holds a lone surrogate (U+{found:04X}) at character {error.start}"
    return f"the text has {size} bytes, more than {max_bytes}" if size > max_bytes else None


def windows(blocks: Iterable[Block], shard_rows: int | None, max_bytes: int = MAX_BYTES) -> Iterator[Window]:
    """The rows of `blocks` in windows: the same ones wherever the reading began, at a shard's first row.

    `shard_rows` None puts everything in shard 0. Where there is no row at all, there is one empty window.
    """
    none = True
    for window in _cut(blocks, shard_rows, max_bytes):
        none = False
        yield window
    if none:
        yield Window(0, (), (), None, (), fraction=1.0)


def _cut(blocks: Iterable[Block], shard_rows: int | None, max_bytes: int) -> Iterator[Window]:
    filling = _Filling(0)
    for block in blocks:
        taken = 0
        for offset, value in enumerate(block.texts):
            row = block.first + offset
            shard = row // shard_rows if shard_rows else 0
            reason = problem_of(value, max_bytes)
            size = len(value) if reason is None else 0
            if filling.ends_before(shard, size):
                filling.carry(block, taken, offset)
                yield filling.window()
                taken, filling = offset, _Filling(shard)
            filling.shard = shard
            filling.add(row, value, reason, size)
        filling.carry(block, taken, len(block.texts))
    if filling.kept:
        yield filling.window()


@dataclass
class _Filling:
    shard: int
    rows: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    bad: list[BadRow] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)
    parts: list[Any] = field(default_factory=list)
    characters: int = 0
    fraction: float = 0.0

    def ends_before(self, shard: int, size: int) -> bool:
        full = len(self.kept) >= WINDOW_ROWS or self.characters + size > WINDOW_BYTES
        return bool(self.kept) and (full or shard != self.shard)

    def add(self, row: int, value: Any, reason: str | None, size: int) -> None:
        self.kept.append(reason is None)
        if reason is not None:
            self.bad.append(BadRow(row, reason))
            return
        self.rows.append(row)
        self.texts.append(value)
        self.characters += size

    def carry(self, block: Block, start: int, end: int) -> None:
        self.fraction = block.fraction
        if block.carried is not None and end > start:
            self.parts.append(block.carried.slice(start, end - start))

    def window(self) -> Window:
        carried = None
        if self.parts:
            import pyarrow as pa

            carried = pa.concat_tables(self.parts)
            if self.bad:
                carried = carried.filter(pa.array(self.kept))
        return Window(self.shard, self.rows, self.texts, carried, self.bad, self.fraction)
