"""What must hold of every pruned checkpoint, checked on the written files against the full one.

None of it uses the code that wrote them: a shifted id, a dropped merge ancestor, a lost special token or a
changed score is an error here, whatever made it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ringkas.checkpoint import WEIGHTS
from ringkas.errors import CheckpointError
from ringkas.export.vocabulary.kinds import kind_of, read_document
from ringkas.export.vocabulary.segment import Segmenter
from ringkas.export.vocabulary.weights import rows_of, table_of
from ringkas.tensors import read_tensors

# Parts of tokenizer.json that decide what reaches the model and that pruning must not touch.
_UNTOUCHED = ("version", "truncation", "normalizer", "pre_tokenizer", "decoder")
_REWRITTEN_IN_MODEL = frozenset({"vocab", "merges", "unk_id"})
_SPELLED_BY_MODEL_ALONE = (
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "truncation",
    "padding",
)


def audit(full: Path, pruned: Path, kept: Sequence[int]) -> None:
    """Compares the folder `pruned` with the folder `full`, of whose ids it keeps `kept`, ascending.

    Raises:
        CheckpointError: something that must hold does not; the first such thing is named.
    """
    before, after = read_document(full), read_document(pruned)
    audit_tokenizer(before, after, kept)
    audit_rows(full, pruned, kept)
    rows = json.loads((pruned / "config.json").read_text(encoding="utf-8")).get("vocab_size", len(kept))
    if rows != len(kept):
        _fail(f"config.json says {rows} rows where {len(kept)} are kept")


def audit_tokenizer(before: Mapping[str, Any], after: Mapping[str, Any], kept: Sequence[int]) -> None:
    """The part of `audit` that needs no weights: two `tokenizer.json` documents."""
    for part in _UNTOUCHED:
        if before.get(part) != after.get(part):
            _fail(f"the {part} of tokenizer.json changed")
    _check_model(before, after, kept)
    _check_added_tokens(before, after, kept)
    full, cut = Segmenter(before), Segmenter(after)
    empty_before, empty_after = next(full.ids([""], special=True)), next(cut.ids([""], special=True))
    if empty_before != [kept[id] for id in empty_after]:
        _fail("the special tokens around a text changed")
    _check_spelling(before, after, kept)


def audit_rows(full: Path, pruned: Path, kept: Sequence[int]) -> None:
    """Every row of the new table is the old row of its token, to the last bit."""
    old, new = table_of(read_tensors(full)), table_of(read_tensors(pruned))
    if new.shape != (len(kept), *old.shape[1:]) or new.dtype != old.dtype:
        _fail(f"the table is {new.dtype} {new.shape} where {len(kept)} rows of {old.dtype} are kept")
    # As large as the chunks: both sides are read with equal row sizes, so the chunks line up.
    for left, right in zip(rows_of(old, kept), rows_of(new, range(len(kept))), strict=True):
        if left != right:
            _fail(f"a row of {WEIGHTS} is not the old row of its token")


def _check_model(before: Mapping[str, Any], after: Mapping[str, Any], kept: Sequence[int]) -> None:
    old, new = before["model"], after["model"]
    for name in {*old, *new} - _REWRITTEN_IN_MODEL:
        if old.get(name) != new.get(name):
            _fail(f"the option {name} of the tokenizer's model changed")
    if isinstance(old["vocab"], list):  # Unigram: a piece and its score
        entries, expected = new["vocab"], [old["vocab"][id] for id in kept if id < len(old["vocab"])]
    else:
        listed = kind_of(before).tokens(before)
        entries, expected = kind_of(after).tokens(after), [listed[id] for id in kept if id < len(listed)]
    if list(entries) != expected:
        at = next(
            (n for n, (a, b) in enumerate(zip(entries, expected, strict=False)) if a != b), len(expected)
        )
        _fail(f"the token of the new id {at} is not the one of the old id that the map names, or its score")
    if old.get("unk_id") is not None and kept[new["unk_id"]] != old["unk_id"]:
        _fail("the unknown token's id is not the old one's")


def _check_added_tokens(before: Mapping[str, Any], after: Mapping[str, Any], kept: Sequence[int]) -> None:
    found = {
        entry["content"]: {**entry, "id": kept[int(entry["id"])] if int(entry["id"]) < len(kept) else -1}
        for entry in after.get("added_tokens", [])
    }
    for entry in before.get("added_tokens", []):
        if found.get(entry["content"]) != entry:
            _fail(f"the special token {entry['content']} is lost or has another id")


def _check_spelling(before: Mapping[str, Any], after: Mapping[str, Any], kept: Sequence[int]) -> None:
    """Each kept token, spelled out, becomes the same tokens if all of them are kept."""
    bare_before, bare_after = (
        {**document, **dict.fromkeys(_SPELLED_BY_MODEL_ALONE), "added_tokens": []}
        for document in (before, after)
    )
    tokens = kind_of(after).tokens(after)
    covered = set(kept)
    unknown = before["model"].get("unk_token") if before["model"]["type"] == "WordPiece" else None
    unknown_id = None if unknown is None else before["model"]["vocab"].get(unknown)
    full, cut = Segmenter(bare_before), Segmenter(bare_after)
    for token, old, new in zip(tokens, full.ids(tokens), cut.ids(tokens), strict=True):
        # WordPiece's theorem leaves out unknown words.
        if unknown_id not in old and covered.issuperset(old) and old != [kept[id] for id in new]:
            _fail(f"the token {token!r} is segmented otherwise than before, though all its parts are kept")


def _fail(what: str) -> None:
    raise CheckpointError(
        f"the pruned checkpoint is not right: {what}",
        why="it would give other vectors for text that it covers",
        fix="Nothing was written; please report it",
    )
