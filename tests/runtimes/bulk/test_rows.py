"""Bad rows are found, and windows are the same wherever the reading began."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from ringkas.runtimes.bulk import rows
from ringkas.runtimes.bulk.rows import Bad, Block, Window, problem_of, windows


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "null"),
        (3, "int, not a string"),
        ("\ud83d half", "lone surrogate (U+D83D) at character 0"),
        ("é" * 6, "12 bytes, more than 10"),
        ("a" * 11, "11 bytes, more than 10"),
        (Bad("it is not JSON"), "it is not JSON"),
    ],
)
def test_bad_rows_have_a_reason(value: object, said: str) -> None:
    assert said in (problem_of(value, max_bytes=10) or "")


@pytest.mark.parametrize("value", ["", " ", "a" * 10, "é" * 5, "🙂"])
def test_good_rows_have_none(value: str) -> None:
    assert problem_of(value, max_bytes=10) is None


def blocks(count: int, size: int, first: int = 0) -> Iterator[Block]:
    for start in range(first, count, size):
        numbers = range(start, min(count, start + size))
        texts = [None if n % 7 == 3 else f"text {n}" for n in numbers]
        yield Block(start, texts, pa.table({"id": [f"id-{n}" for n in numbers]}))


def as_lists(found: Iterator[Window]) -> list[tuple[int, list[int], list[str], list[str], list[int]]]:
    return [
        (
            one.shard,
            list(one.rows),
            list(one.texts),
            one.carried.column("id").to_pylist() if one.carried else [],
            [bad.row for bad in one.bad],
        )
        for one in found
    ]


@pytest.mark.parametrize("size", [1, 4, 10, 100])
def test_windows_do_not_depend_on_the_blocks(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "WINDOW_ROWS", 5)
    whole = as_lists(windows(blocks(43, 7), 12))
    assert as_lists(windows(blocks(43, size), 12)) == whole
    assert {one[0] for one in whole} == {0, 1, 2, 3}
    for shard, numbers, texts, ids, bad in whole:
        assert all(n // 12 == shard for n in [*numbers, *bad])
        assert len(numbers) + len(bad) <= 5
        assert texts == [f"text {n}" for n in numbers]
        assert ids == [f"id-{n}" for n in numbers]
    assert sorted(n for one in whole for n in [*one[1], *one[4]]) == list(range(43))


@pytest.mark.parametrize("shard", [1, 2, 3])
def test_windows_do_not_depend_on_where_the_reading_began(
    shard: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "WINDOW_ROWS", 5)
    whole = as_lists(windows(blocks(43, 7), 12))
    assert as_lists(windows(blocks(43, 7, first=12 * shard), 12)) == [one for one in whole if one[0] >= shard]


def test_windows_end_at_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "WINDOW_BYTES", 10)
    found = list(windows([Block(0, ["aaaa", "bbbb", "cccc", "d" * 50, "e"])], None))
    assert [list(one.texts) for one in found] == [["aaaa", "bbbb"], ["cccc"], ["d" * 50], ["e"]]


def test_no_rows_are_one_empty_window() -> None:
    (only,) = windows([], 10)
    assert (only.shard, len(only.texts)) == (0, 0)
