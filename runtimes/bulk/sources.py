"""What is read: plain lines, .jsonl, CSV, Parquet, compressed or not, one file or many, as one run."""

from __future__ import annotations

import csv
import glob
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from ringkas.errors import RingkasError, TextError
from ringkas.extras import require
from ringkas.files import expand, sha256
from ringkas.runtimes.bulk.rows import MAX_BYTES, Bad, Block
from ringkas.text_files import JSON_LINES, PARQUET, PLAIN, TEXT_COLUMN
from ringkas.text_streams import Source as OpenedSource
from ringkas.text_streams import open_source, reading

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["lines", "jsonl", "csv", "tsv", "parquet"]
FORMATS: tuple[Format, ...] = ("lines", "jsonl", "csv", "tsv", "parquet")
_ENDINGS: dict[str, Format] = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".csv": "csv", ".tsv": "tsv",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
_COMPRESSED = (".gz", ".zst")
_BLOCK_ROWS = 1024
STDIN = "-"


@dataclass(frozen=True)
class Columns:
    """Where the texts are, and what is carried along with their vectors."""

    text: str = TEXT_COLUMN
    carried: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """The whole input: its files in order, or standard input.

    Args:
        files: in the order of their rows; none for standard input.
        format: of every file; None goes by each one's ending.
        columns: not for plain lines.
        max_bytes: a longer text is bad.
    """

    files: tuple[Path, ...]
    format: Format | None = None
    columns: Columns = Columns()
    max_bytes: int = MAX_BYTES

    @property
    def resumable(self) -> bool:
        """Whether it can be read again: not so standard input and pipes."""
        return bool(self.files) and all(file.is_file() for file in self.files)

    def identity(self) -> list[dict[str, Any]]:
        """Names, sizes and checksums: what a resumed run compares."""
        if not self.resumable:
            return []
        return [
            {"name": file.name, "bytes": file.stat().st_size, "sha256": sha256(file)} for file in self.files
        ]

    def rows(self) -> int | None:
        """How many there are, where that is written down: in Parquet's footers."""
        if not self.files or any(self.format_of(file) != "parquet" for file in self.files):
            return None
        return sum(int(_parquet(file).metadata.num_rows) for file in self.files)

    def format_of(self, file: Path) -> Format:
        return self.format or format_by_ending(file)

    def schema(self) -> pa.Schema | None:
        """The types of the columns to carry along; None where there are none.

        They are those of the first rows, and strings where these cannot be looked at beforehand.

        Raises:
            TextError: a column is missing, or plain lines are to carry one.
        """
        if not self.columns.carried:
            return None
        require("bulk", "pyarrow")
        first = next(self._blocks(0, None), None) if self.resumable else None
        if first is None or first.carried is None:
            import pyarrow as pa

            return pa.schema([(name, pa.string()) for name in self.columns.carried])
        return first.carried.schema

    def blocks(self, first_row: int = 0) -> Iterator[Block]:
        """The rows from `first_row` on.

        Raises:
            TextError: a file cannot be read, or has not the columns.
        """
        return self._blocks(first_row, self.schema())

    def _blocks(self, first_row: int, schema: pa.Schema | None) -> Iterator[Block]:
        row, done = 0, 0
        total = sum(file.stat().st_size for file in self.files) or 1
        for file in self.files or (None,):
            format = self.format or ("lines" if file is None else format_by_ending(file))
            size = file.stat().st_size if file is not None else 0
            if format == "parquet":
                if file is None:
                    raise TextError("Parquet cannot be read from standard input", fix="Name the file")
                count = _parquet(file).metadata.num_rows
                reader = _read_parquet(file, self.columns, max(0, first_row - row))
            else:
                count, reader = 0, _read_lines(file, format, self)
            start = row
            row += count
            position = max(start, first_row) if format == "parquet" else start
            for texts, carried, share in reader:
                end = position + len(texts)
                if format != "parquet":
                    row = end
                fraction = (done + size * share) / total if self.files else 0.0
                if end > first_row:
                    skip = max(0, first_row - position)
                    table = _table(carried, self.columns, schema, str(file or "standard input"))
                    block = Block(
                        position + skip, texts[skip:], None if table is None else table.slice(skip), fraction
                    )
                    schema = schema or (None if table is None else table.schema)
                    yield block
                position = end
            done += size


def find_files(patterns: Sequence[str]) -> tuple[Path, ...]:
    """The files that paths, folders and glob patterns name, sorted; none for standard input.

    Raises:
        TextError: a pattern names no file, or standard input is named beside files.
    """
    if not patterns or tuple(patterns) == (STDIN,):
        return ()
    found: list[Path] = []
    for pattern in patterns:
        if pattern == STDIN:
            raise TextError("standard input is named beside files", fix="Name one or the other")
        place = expand(pattern)
        if place.is_dir():
            names = [str(file) for file in place.iterdir() if file.name[0] not in "._"]
        else:
            names = [str(place)] if place.exists() else glob.glob(str(place), recursive=True)
        files = sorted(Path(name) for name in names if Path(name).is_file() or Path(name).is_fifo())
        if not files:
            raise TextError(
                f"cannot read {pattern}", why="no such file", fix="Name a file, a folder or a pattern"
            )
        found += files
    return tuple(dict.fromkeys(found))


def format_by_ending(file: Path) -> Format:
    """Plain lines unless the ending, before `.gz` or `.zst`, says otherwise."""
    name = file.with_suffix("") if file.suffix in _COMPRESSED else file
    return _ENDINGS.get(name.suffix, "lines")


# Parquet

Part = tuple[Sequence[Any], Any, float]  # texts, carried columns, share of the file that has been read


def _parquet(file: Path) -> Any:
    require("bulk", "pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise TextError(f"cannot read {file} as Parquet", why=str(error).splitlines()[0]) from None


def _read_parquet(file: Path, columns: Columns, first_row: int) -> Iterator[Part]:
    """From a row on; whole row groups before it are not read."""
    import pyarrow as pa

    opened = _parquet(file)
    names = list(dict.fromkeys((columns.text, *columns.carried)))
    _check_columns(file, opened.schema_arrow.names, names)
    before = 0
    groups: list[int] = []
    for group in range(opened.metadata.num_row_groups):
        count = opened.metadata.row_group(group).num_rows
        if not groups and before + count <= first_row:
            before += count
        else:
            groups.append(group)
    skip, total, position = first_row - before, opened.metadata.num_rows or 1, before
    try:
        for batch in opened.iter_batches(_BLOCK_ROWS, row_groups=groups, columns=names, use_threads=False):
            position += batch.num_rows
            if skip >= batch.num_rows:
                skip -= batch.num_rows
                continue
            table = pa.Table.from_batches([batch]).slice(skip)
            skip = 0
            carried = table.select(list(columns.carried)) if columns.carried else None
            yield _values(table.column(columns.text)), carried, position / total
    except (pa.ArrowException, OSError) as error:
        raise TextError(f"cannot read {file}", why=str(error).splitlines()[0]) from None


def _values(column: pa.ChunkedArray) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = [_text(value) for value in column.cast(pa.large_binary()).to_pylist()]
    return values


def _text(value: bytes | None) -> str | Bad | None:
    if value is None:
        return None
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        return Bad(f"the text is not UTF-8: byte 0x{value[error.start]:02x} at offset {error.start}")


def _check_columns(file: Path | str, there: Sequence[str], wanted: Sequence[str]) -> None:
    for name in wanted:
        if name not in there:
            listed = ", ".join(there) or "none"
            raise TextError(
                f"{file} has no column {name!r}",
                why=f"its columns are {listed}",
                fix="Name the texts' column with --text-column, others with --id-column and --columns",
            )


# Lines


def _read_lines(file: Path | None, format: Format, source: Source) -> Iterator[Part]:
    columns = source.columns
    if format == "lines" and columns.carried:
        raise TextError(
            "plain lines have no columns", fix="Leave out --id-column and --columns, or give .jsonl or CSV"
        )
    with ExitStack() as stack:
        raw, size = _raw(file, stack)
        opened = stack.enter_context(open_source(raw, "" if file is None else str(file)))
        stack.enter_context(reading(opened.name))
        if opened.head.startswith(PARQUET.magic):
            raise TextError(f"{opened.name} is a Parquet file", fix="Name it .parquet")
        rows = _ROWS[format](opened, source)

        def share() -> float:
            return min(1.0, raw.tell() / size) if size else 0.0

        yield from _gather(rows, columns, share)


def _raw(file: Path | None, stack: ExitStack) -> tuple[BinaryIO, int]:
    if file is None:
        if sys.stdin is None or sys.stdin.isatty():
            raise TextError("there is nothing to encode", fix="Pipe texts in, or name a file with --input")
        return sys.stdin.buffer, 0
    try:
        return stack.enter_context(file.open("rb")), file.stat().st_size
    except OSError as error:
        raise TextError(f"cannot read {file}", why=error.strerror or str(error)) from None


Row = tuple[Any, tuple[Any, ...]]  # the text, the carried values


def _gather(rows: Iterator[Row], columns: Columns, share: Callable[[], float]) -> Iterator[Part]:
    texts: list[Any] = []
    carried: list[tuple[Any, ...]] = []
    for text, values in rows:
        texts.append(text)
        carried.append(values)
        if len(texts) == _BLOCK_ROWS:
            yield texts, carried if columns.carried else None, share()
            texts, carried = [], []
    if texts:
        yield texts, carried if columns.carried else None, 1.0


def _plain_rows(opened: OpenedSource, source: Source) -> Iterator[Row]:
    for row in PLAIN.rows(opened):
        yield row.columns[TEXT_COLUMN], ()


def _json_rows(opened: OpenedSource, source: Source) -> Iterator[Row]:
    columns = source.columns
    for row in JSON_LINES.rows(opened):
        values = tuple(row.columns.get(name) for name in columns.carried)
        if row.problem or columns.text not in row.columns:
            yield Bad(row.why_no_text(columns.text)), values
        else:
            yield row.columns[columns.text], values


def _csv_rows(opened: OpenedSource, source: Source, delimiter: str = ",") -> Iterator[Row]:
    columns = source.columns
    csv.field_size_limit(2**31 - 1)  # what is too long is a bad row, found where all others are
    reader = csv.reader(
        TextIOWrapper(opened.stream, opened.encoding, newline=""), delimiter=delimiter, strict=True
    )
    nothing = (None,) * len(columns.carried)
    header = next(reader, None)
    if header is None:
        return
    names = [columns.text, *columns.carried]
    _check_columns(opened.name, header, names)
    at = [header.index(name) for name in names]
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # Where a quote is open, nobody knows where the next row begins.
            raise TextError(
                f"line {reader.line_num} of {opened.name} is not CSV", why=str(error), fix="Mend it"
            ) from None
        if len(fields) != len(header):
            yield Bad(f"it has {len(fields)} fields, not {len(header)}"), nothing
            continue
        text, *values = (fields[index] for index in at)
        yield text, tuple(values)


_ROWS: dict[Format, Callable[[OpenedSource, Source], Iterator[Row]]] = {
    "lines": _plain_rows,
    "jsonl": _json_rows,
    "csv": _csv_rows,
    "tsv": partial(_csv_rows, delimiter="\t"),
}


def _table(carried: Any, columns: Columns, schema: pa.Schema | None, name: str) -> pa.Table | None:
    """The carried columns as a pyarrow table, in the types that the first rows have."""
    if carried is None:
        return None
    import pyarrow as pa

    try:
        if isinstance(carried, pa.Table):
            return carried if schema is None else carried.cast(schema)
        by_column = list(zip(*carried, strict=True))
        if schema is None:
            arrays = [pa.array(values) for values in by_column]
            arrays = [one.cast(pa.string()) if pa.types.is_null(one.type) else one for one in arrays]
            return pa.table(arrays, names=list(columns.carried))
        arrays = [
            pa.array(map(_as_string, values) if pa.types.is_string(field.type) else values, type=field.type)
            for values, field in zip(by_column, schema, strict=True)
        ]
        return pa.table(arrays, schema=schema)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise RingkasError(
            f"the carried columns of {name} change their type",
            why=str(error).splitlines()[0],
            fix="Carry columns of one type, or convert the file to Parquet",
        ) from None


def _as_string(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
