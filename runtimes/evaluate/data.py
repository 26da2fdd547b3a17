"""What quality is judged on, read from disk: BEIR folders, and tables of sentence pairs.

Everything is checked before the first text is encoded: an unknown id in the last line of the judgements must
not be found after an hour.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringkas.errors import TextError

_CORPUS, _QUERIES, _JUDGEMENTS = "corpus.jsonl", "queries.jsonl", "qrels/{split}.tsv"
_JUDGEMENTS_HEADER = ("query-id", "corpus-id", "score")
_PAIRS_HEADER = ("text1", "text2", "score")
_FEWEST_PAIRS = 3


@dataclass(frozen=True)
class RetrievalSet:
    """A BEIR folder: documents by id, the judged queries, and how relevant which document is to which.

    The documents' texts stay on disk: `documents` reads them anew, in the order of `document_ids`.
    """

    folder: Path
    document_ids: tuple[str, ...]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]

    def documents(self) -> Iterator[str]:
        """Each document's title and text, as BEIR joins them."""
        for _, text in _documents(self.folder / _CORPUS):
            yield text


@dataclass(frozen=True)
class PairSet:
    """Sentence pairs and how alike people found them."""

    file: Path
    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...]


def read_beir(folder: Path, split: str = "test") -> RetrievalSet:
    """Reads corpus.jsonl (_id, title, text), queries.jsonl (_id, text) and qrels/<split>.tsv.

    Raises:
        TextError: a file is missing or broken, an id is given twice or unknown, or nothing is judged
            relevant.
    """
    if not folder.is_dir():
        raise TextError(f"there is no folder {folder}", fix="Name one in BEIR's layout")
    document_ids = _unique(folder / _CORPUS, (key for key, _ in _documents(folder / _CORPUS)))
    if not document_ids:
        raise TextError(f"{folder / _CORPUS} holds no document")
    queries = _queries(folder / _QUERIES)
    file = folder / _JUDGEMENTS.format(split=split)
    judgements = _judgements(file, queries.keys(), frozenset(document_ids))
    if not any(level > 0 for judged in judgements.values() for level in judged.values()):
        raise TextError(f"{file} judges no document relevant to any query")
    return RetrievalSet(folder, document_ids, {key: queries[key] for key in judgements}, judgements)


def read_pairs(file: Path) -> PairSet:
    """Reads a table of text1, text2 and score, parted by tabs; a first line of just these names is skipped.

    Raises:
        TextError: it is missing or broken, or its scores cannot rank anything.
    """
    rows = []
    for number, line in _lines(file):
        fields = line.split("\t")
        if number == 1 and tuple(name.strip().lower() for name in fields) == _PAIRS_HEADER:
            continue
        score = _number(fields[2]) if len(fields) == len(_PAIRS_HEADER) else None
        if score is None:
            raise TextError(
                f"line {number} of {file} is no sentence pair",
                fix="Write text1, text2 and a score, with tabs",
            )
        rows.append((fields[0], fields[1], score))
    if len(rows) < _FEWEST_PAIRS or len({score for _, _, score in rows}) == 1:
        raise TextError(
            f"{file} cannot be ranked",
            why=f"it has {len(rows)} pairs with {len({score for _, _, score in rows})} different scores",
        )
    first, second, scores = zip(*rows, strict=True)
    return PairSet(file, first, second, scores)


def _documents(file: Path) -> Iterator[tuple[str, str]]:
    for number, record in _records(file):
        title, text = record.get("title") or "", record.get("text")
        if not isinstance(title, str) or not isinstance(text, str):
            raise _broken(file, number, '{"_id": "...", "title": "...", "text": "..."}')
        yield record["_id"], f"{title} {text}".strip()


def _queries(file: Path) -> dict[str, str]:
    texts = []
    for number, record in _records(file):
        if not isinstance(record.get("text"), str):
            raise _broken(file, number, '{"_id": "...", "text": "..."}')
        texts.append((record["_id"], record["text"]))
    _unique(file, (key for key, _ in texts))
    return dict(texts)


def _judgements(file: Path, queries: Any, documents: frozenset[str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    lines = _lines(file)
    header = next(lines, (1, ""))[1]
    if tuple(header.split("\t")) != _JUDGEMENTS_HEADER:
        raise TextError(
            f"{file} does not start with the names of its columns",
            fix="Its first line must be query-id, corpus-id, score, with tabs",
        )
    for number, line in lines:
        fields = line.split("\t")
        level = _number(fields[2]) if len(fields) == len(_JUDGEMENTS_HEADER) else None
        if level is None or level != int(level):
            raise TextError(
                f"line {number} of {file} is no judgement",
                fix="Write query-id, corpus-id and a whole number, with tabs",
            )
        query, document = fields[:2]
        for key, known, name in ((query, queries, _QUERIES), (document, documents, _CORPUS)):
            if key not in known:
                raise TextError(f"line {number} of {file} names {key!r}, which {name} does not have")
        judged = found.setdefault(query, {})
        if document in judged:
            raise TextError(f"line {number} of {file} judges {document!r} for {query!r} again")
        judged[document] = int(level)
    return found


def _records(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each line's JSON object, its `_id` a string."""
    for number, line in _lines(file):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        key = record.get("_id") if isinstance(record, dict) else None
        if isinstance(key, int) and not isinstance(key, bool):
            key = str(key)
        if not isinstance(record, dict) or not isinstance(key, str):
            raise _broken(file, number, '{"_id": "...", "text": "..."}')
        try:
            "".join(value for value in record.values() if isinstance(value, str)).encode("utf-8")
        except UnicodeEncodeError:
            raise TextError(
                f"line {number} of {file} holds a lone surrogate", why="it is half of a character"
            ) from None
        yield number, record | {"_id": key}


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, numbered from 1."""
    try:
        with file.open("rb") as stream:
            for number, line in enumerate(stream, 1):
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if text.strip():
                    yield number, text
    except UnicodeDecodeError as error:
        raise TextError(f"{file} is not UTF-8", why=f"line {number}: {error.reason}") from None
    except OSError as error:
        raise TextError(f"cannot read {file}", why=error.strerror or str(error)) from None


def _unique(file: Path, keys: Iterator[str]) -> tuple[str, ...]:
    seen: dict[str, None] = {}
    for key in keys:
        if key in seen:
            raise TextError(f"{file} gives the id {key!r} twice", fix="Drop one, or give it another id")
        seen[key] = None
    return tuple(seen)


def _number(field: str) -> float | None:
    try:
        value = float(field)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _broken(file: Path, number: int, form: str) -> TextError:
    return TextError(f"line {number} of {file} is broken", fix=f"Each line must be a JSON object: {form}")
