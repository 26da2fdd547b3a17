"""`tokenizer.json` as GGUF metadata, so that llama.cpp can segment strings by itself.

Ringkas's own engine sends ids; this is for llama.cpp, Ollama and their like.
"""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError, TargetError
from ringkas.tokenizer_config import resolve
from ringkas.tokens import TOKENIZER_FILE

_SPACE = "\u2581"  # SentencePiece's mark for a space
_WORST_SCORE = -10000.0


class TokenType(IntEnum):
    """llama.cpp's kinds of tokens (llama_token_type)."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """Parallel sequences, one entry a row of the token table, and the keys below `tokenizer.ggml.`.

    `scores` is empty where the model has none (WordPiece, byte-level BPE), `merges` where it has no merges.
    `pre` is llama.cpp's name for how texts are split before they are merged.
    """

    model: str
    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float]
    special_ids: Mapping[str, int]
    flags: Mapping[str, bool]
    charsmap: bytes = b""
    merges: Sequence[str] = ()
    pre: str = "default"


def read_vocabulary(checkpoint: Checkpoint, rows: int) -> Vocabulary:
    """The vocabulary of a checkpoint whose token table has `rows` rows.

    Raises:
        TargetError: llama.cpp has no tokenizer of that kind.
        CheckpointError: the tokenizer has ids that the token table has no row for.
    """
    stored = json.loads((checkpoint.path / TOKENIZER_FILE).read_text(encoding="utf-8"))
    tokenizer = resolve(stored, checkpoint.path)
    kind = tokenizer["model"].get("type")
    if kind not in _READERS:
        raise TargetError(
            f"{checkpoint.name} has a {kind} tokenizer",
            why="this project has no checked way to tell llama.cpp about it",
            fix="Supported: " + ", ".join(_READERS),
        )
    return _READERS[kind](tokenizer, _Table(rows, tokenizer), checkpoint)


class _Table:
    """The rows, filled by id; what stays empty is padding that no text can reach."""

    def __init__(self, rows: int, tokenizer: Mapping[str, Any]) -> None:
        self.tokens = [f"[PAD{row}]" for row in range(rows)]
        self.types = [int(TokenType.UNUSED)] * rows
        self.scores = [_WORST_SCORE] * rows
        self.added = {token["id"]: token for token in tokenizer.get("added_tokens", [])}

    def put(self, row: int, token: str, kind: TokenType, score: float = 0.0) -> None:
        if row >= len(self.tokens):
            raise CheckpointError(
                f"the tokenizer has the id {row} ({token!r}), the token table {len(self.tokens)} rows",
                fix="Use the tokenizer that belongs to these weights",
            )
        self.tokens[row], self.types[row], self.scores[row] = token, int(kind), score

    def put_added(self) -> None:
        """Tokens outside the model's own vocabulary, and the kind of those inside it."""
        for row, token in self.added.items():
            special = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
            inside = row < len(self.types) and self.types[row] == TokenType.UNKNOWN
            self.put(row, token["content"], TokenType.UNKNOWN if inside else special)

    def without_duplicates(self) -> list[str]:
        """llama.cpp ends the process over two equal tokens: every one but the first is renamed and unused."""
        seen: set[str] = set()
        for row, token in enumerate(self.tokens):
            if token in seen:
                self.tokens[row], self.types[row] = f"[DUPLICATE{row}]", int(TokenType.UNUSED)
                self.scores[row] = _WORST_SCORE
            seen.add(self.tokens[row])
        return self.tokens


def _word_piece(tokenizer: Mapping[str, Any], table: _Table, checkpoint: Checkpoint) -> Vocabulary:
    model = tokenizer["model"]
    prefix = model.get("continuing_subword_prefix", "##")
    for token, row in model["vocab"].items():
        # llama.cpp marks the starts of words where WordPiece marks their continuations.
        start = token[len(prefix) :] if token.startswith(prefix) else _SPACE + token
        table.put(row, start, TokenType.NORMAL)
    table.put_added()
    normalizer = next(_find(tokenizer.get("normalizer"), "BertNormalizer"), {})
    lowercase = bool(normalizer.get("lowercase", False)) or checkpoint.spec.lower_case
    strip = normalizer.get("strip_accents")
    first, last = _frame(tokenizer)
    ids = {"bos": first, "eos": last, "seperator": last, "cls": first}
    ids |= _named(table, {"unknown": model["unk_token"], "padding": "[PAD]", "mask": "[MASK]"})
    return Vocabulary(
        "bert",
        table.without_duplicates(),
        table.types,
        (),
        ids,
        {
            "add_bos_token": True,
            "add_eos_token": True,
            "normalizer.lowercase": lowercase,
            "normalizer.strip_accents": lowercase if strip is None else bool(strip),
        },
    )


def _unigram(tokenizer: Mapping[str, Any], table: _Table, checkpoint: Checkpoint) -> Vocabulary:
    model = tokenizer["model"]
    for row, (token, score) in enumerate(model["vocab"]):
        table.put(row, token, TokenType.UNKNOWN if row == model["unk_id"] else TokenType.NORMAL, score)
    table.put_added()
    first, last = _frame(tokenizer)
    ids = {"bos": first, "eos": last, "seperator": last, "unknown": int(model["unk_id"])}
    ids |= _named(table, {"padding": "<pad>", "mask": "<mask>"})
    charsmap = next(_find(tokenizer.get("normalizer"), "Precompiled"), {}).get("precompiled_charsmap", "")
    return Vocabulary(
        "t5",
        table.without_duplicates(),
        table.types,
        table.scores,
        ids,
        {
            "add_bos_token": True,
            "add_eos_token": True,
            "add_space_prefix": True,
            "remove_extra_whitespaces": True,
        },
        b64decode(charsmap),
    )


def _bpe(tokenizer: Mapping[str, Any], table: _Table, checkpoint: Checkpoint) -> Vocabulary:
    reader = _byte_fallback_bpe if tokenizer["model"].get("byte_fallback") else _byte_level_bpe
    return reader(tokenizer, table, checkpoint)


def _byte_fallback_bpe(tokenizer: Mapping[str, Any], table: _Table, checkpoint: Checkpoint) -> Vocabulary:
    """SentencePiece's BPE (Gemma, Llama-2): llama.cpp merges by score, here less the rank of the merge."""
    model = tokenizer["model"]
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(_merges(model)):
        ranks.setdefault(merge.replace(" ", "", 1), rank)
    for token, row in model["vocab"].items():
        kind = TokenType.BYTE if _is_byte(token) else TokenType.NORMAL
        score = -float(ranks.get(token, len(ranks)))
        table.put(row, token, TokenType.UNKNOWN if token == model["unk_token"] else kind, score)
    table.put_added()
    ids, flags = _frame_of_bpe(tokenizer)
    named = {"unknown": model["unk_token"], "padding": "<pad>", "mask": "<mask>", "eos": "<eos>"}
    return Vocabulary(
        "llama",
        table.without_duplicates(),
        table.types,
        table.scores,
        ids | _named(table, named),
        flags | {"add_space_prefix": _puts_a_space_first(tokenizer)},
    )


def _byte_level_bpe(tokenizer: Mapping[str, Any], table: _Table, checkpoint: Checkpoint) -> Vocabulary:
    """BPE of bytes (Qwen, Llama 3): llama.cpp merges in the order of the file, and splits by a named rule."""
    pre = _pre_tokenizer(tokenizer)
    if pre is None:
        raise TargetError(
            f"{checkpoint.name} has a byte-level BPE tokenizer that splits texts by a rule of its own",
            why="llama.cpp knows such rules by their names alone, and has none known to be this",
            fix=f"Use an ONNX target. Known: {', '.join(sorted(set(_PRE_TOKENIZERS.values())))}",
        )
    for token, row in tokenizer["model"]["vocab"].items():
        table.put(row, token, TokenType.NORMAL)
    table.put_added()
    ids, flags = _frame_of_bpe(tokenizer)
    return Vocabulary(
        "gpt2",
        table.without_duplicates(),
        table.types,
        (),
        ids | _padding(table, checkpoint),
        flags,
        merges=list(_merges(tokenizer["model"])),
        pre=pre,
    )


def _merges(model: Mapping[str, Any]) -> Iterator[str]:
    """Each merge as "left right": files of old write it so, newer ones as two strings."""
    return (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])


def _frame_of_bpe(tokenizer: Mapping[str, Any]) -> tuple[dict[str, int], dict[str, bool]]:
    """The ids of what stands before and after a text, where anything does, and whether it does."""
    ids = dict(zip(("bos", "eos"), _frame(tokenizer), strict=True))
    flags = {f"add_{name}_token": id >= 0 for name, id in ids.items()}
    return {name: id for name, id in ids.items() if id >= 0}, flags


def _padding(table: _Table, checkpoint: Checkpoint) -> dict[str, int]:
    pad = checkpoint.spec.pad_id
    return {"padding": pad} if pad in table.added else {}


def _puts_a_space_first(tokenizer: Mapping[str, Any]) -> bool:
    if any(_find(tokenizer.get("normalizer"), "Prepend")):
        return True
    parts = _find(tokenizer.get("pre_tokenizer"), "Metaspace")
    return any(part.get("prepend_scheme", "always") != "never" for part in parts)


# llama.cpp's names (llama-vocab.cpp) by the expression that tokenizer.json splits by.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PRE_TOKENIZERS: Mapping[str | None, str] = {
    _WORDS % "": "qwen2",
    _WORDS % "{1,3}": "llama-bpe",
    None: "gpt-2",
}


def _pre_tokenizer(tokenizer: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for the rule by which a byte-level BPE splits texts; None where it has none."""
    parts = tokenizer.get("pre_tokenizer")
    levels, splits = list(_find(parts, "ByteLevel")), list(_find(parts, "Split"))
    if len(levels) != 1 or len(splits) > 1 or levels[0].get("add_prefix_space"):
        return None
    if not splits:  # then ByteLevel itself splits, by GPT-2's expression
        return _PRE_TOKENIZERS[None] if levels[0].get("use_regex", True) else None
    pattern = splits[0].get("pattern", {}).get("Regex")
    plain = splits[0].get("behavior") == "Isolated" and not splits[0].get("invert")
    return (
        _PRE_TOKENIZERS.get(pattern) if pattern and plain and not levels[0].get("use_regex", True) else None
    )


_READERS: Mapping[str, Callable[[Mapping[str, Any], _Table, Checkpoint], Vocabulary]] = {
    "WordPiece": _word_piece,
    "Unigram": _unigram,
    "BPE": _bpe,
}


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _frame(tokenizer: Mapping[str, Any]) -> tuple[int, int]:
    """The ids that the tokenizer puts before and after a text; -1 for none."""
    found = {"before": -1, "after": -1}
    side = "before"
    for processor in _find(tokenizer.get("post_processor"), "TemplateProcessing"):
        for piece in processor["single"]:
            if "Sequence" in piece:
                side = "after"
            else:
                found[side] = int(processor["special_tokens"][piece["SpecialToken"]["id"]]["ids"][0])
    for kind in ("RobertaProcessing", "BertProcessing"):
        for processor in _find(tokenizer.get("post_processor"), kind):
            found = {"before": int(processor["cls"][1]), "after": int(processor["sep"][1])}
    return found["before"], found["after"]


def _named(table: _Table, wanted: Mapping[str, str]) -> dict[str, int]:
    by_content = {token["content"]: int(row) for row, token in table.added.items()}
    return {name: by_content[content] for name, content in wanted.items() if content in by_content}


def _find(part: Any, kind: str) -> Iterator[dict[str, Any]]:
    """Every part of that type in a normalizer or post-processor, however deep in a Sequence."""
    if isinstance(part, dict):
        if part.get("type") == kind:
            yield part
        for name in ("normalizers", "processors", "pretokenizers"):
            for inner in part.get(name, []):
                yield from _find(inner, kind)
