"""The one reader of files of texts: for `embed`, for `--texts` and for `--corpus` alike.

What a file is decides its content: gzip, zstd and Parquet by their first bytes, the encoding by its byte
order mark. Only JSON lines and plain lines cannot be told apart by that, so there the name decides. Rows are
read one at a time; nothing holds a whole file. A format is one row of `FORMATS`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ringkas.errors import TextError
from ringkas.extras import require
from ringkas.text_streams import Source, lines, open_source, reading
from ringkas.texts import check_text

TEXT_COLUMN = "text"
_BLANK = "it is blank"
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Row:
    """The columns of one row by name; or, where it has none, the `problem` with it."""

    columns: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""

    def text(self, column: str) -> str | None:
        """The text in `column`; None where there is none, which `why_no_text` explains."""
        found = self.columns.get(column)
        return found if isinstance(found, str) else None

    def why_no_text(self, column: str) -> str:
        """Why `text` gave None, as the middle of a sentence."""
        if self.problem:
            return self.problem
        if column not in self.columns:
            return f"it has no {column!r}"
        return f"its {column!r} is {type(self.columns[column]).__name__}, not a string"


@dataclass(frozen=True)
class Format:
    """How rows lie in a file. `magic` is what its bytes begin with; without one, the name's ending decides.

    `unit` is what an error counts; `advice` says how a row should look.
    """

    name: str
    rows: Callable[[Source], Iterator[Row]]
    endings: tuple[str, ...] = ()
    magic: bytes = b""
    unit: str = "row"
    advice: str = ""


def iterate_texts(
    place: Path | BinaryIO, column: str = TEXT_COLUMN, *, name: str = "", skip_blank: bool = False
) -> Iterator[str]:
    """The texts of a file, or of an open binary stream that errors call `name`: one a row, in order.

    Blank lines of a plain file are texts too (empty strings), so that line n is vector n; `skip_blank`
    leaves out what holds nothing but white space.

    Raises:
        TextError: it cannot be read, is none of the formats, or a row, named by its number, has no text.
    """
    with open_source(place, name) as source, reading(source.name):
        kind = format_of(source)
        for number, row in enumerate(kind.rows(source), 1):
            text = row.text(column)
            if skip_blank and (row.problem == _BLANK or (text is not None and not text.strip())):
                continue
            if text is None:
                raise TextError(
                    f"{kind.unit} {number} of {source.name} holds no text",
                    why=row.why_no_text(column),
                    fix=kind.advice,
                )
            # A whole UTF-8 file holds no half characters, but an escape in JSON can spell one.
            check_text(text, number - 1)
            yield text


def read_texts(place: Path | BinaryIO, *, name: str = "") -> list[str]:
    """`iterate_texts` as a list: one text a line, or the `text` field of each line of JSON lines."""
    return list(iterate_texts(place, name=name))


def iterate_rows(place: Path | BinaryIO, *, name: str = "") -> Iterator[Row]:
    """The rows of a file or a stream, in order. One that cannot be read has a `problem`, and the next follow.

    Raises:
        TextError: it cannot be read at all, or is none of the formats.
    """
    with open_source(place, name) as source, reading(source.name):
        yield from format_of(source).rows(source)


def format_of(source: Source) -> Format:
    """The format of a source: by its first bytes where they say it, else by its name, else plain lines."""
    for kind in FORMATS:
        if kind.magic and source.head.startswith(kind.magic):
            return kind
    for kind in FORMATS:
        if source.endings and source.endings[-1] in kind.endings:
            return kind
    return PLAIN


def _plain_rows(source: Source) -> Iterator[Row]:
    for line in lines(source):
        yield Row({TEXT_COLUMN: line})


def _json_rows(source: Source) -> Iterator[Row]:
    for line in lines(source):
        if not line.strip():
            yield Row(problem=_BLANK)
            continue
        try:
            value = json.loads(line)
        except ValueError as error:
            yield Row(problem=f"it is not JSON ({error})")
            continue
        except RecursionError:
            yield Row(problem="it is nested too deeply")
            continue
        yield Row(value) if isinstance(value, dict) else Row(problem="it is not a JSON object")


def _parquet_rows(source: Source) -> Iterator[Row]:
    """The columns of strings, a batch of rows at a time."""
    require("bulk", "pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    if source.path is None or not source.path.is_file():
        raise TextError(
            f"{source.name} is Parquet in a stream", why="its index stands at its end", fix="Name the file"
        )
    try:
        with pq.ParquetFile(source.path) as opened:
            fields = opened.schema_arrow
            names = [name for name in fields.names if _holds_strings(pa, fields.field(name).type)]
            for batch in opened.iter_batches(_ROWS_AT_ONCE, columns=names):
                if not names:
                    yield from (Row() for _ in range(batch.num_rows))
                yield from map(Row, batch.to_pylist())
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise TextError(f"cannot read {source.name} as Parquet", why=str(error).splitlines()[0]) from None


def _holds_strings(pa: Any, kind: Any) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


PLAIN = Format("plain text", _plain_rows, unit="line")
JSON_LINES = Format(
    "JSON lines",
    _json_rows,
    endings=(".jsonl", ".ndjson", ".json"),
    unit="line",
    advice='Each line must be a JSON object: {"text": "..."}',
)
PARQUET = Format(
    "Parquet", _parquet_rows, magic=b"PAR1", advice="Call the column of strings that holds the texts `text`"
)
FORMATS: tuple[Format, ...] = (PARQUET, JSON_LINES, PLAIN)
