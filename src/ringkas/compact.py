"""A large Unigram tokenizer that opens in a fraction of the time: `compact.npz` beside `tokenizer.json`.

What takes `Tokenizer.from_file` a second and 300 MB for XLM-R is not its JSON but the trie that it builds of
250,002 pieces. Here the pieces stay one table, looked up by slices of the text, and the best path is found by
the algorithm of the tokenizers package (its Unigram::encode_optimized): the same order of pieces, the same
float64 sums, the same rule for ties, so the same ids. Normalizer and pre-tokenizer are the package's own,
read without the pieces. It is slower by the text, so tokens.py takes it for small calls only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from tokenizers import Tokenizer

from ringkas.arrays import ArraysError, read_arrays
from ringkas.errors import ArtifactError, panics_as_errors
from ringkas.files import read_whole
from ringkas.spec import EncodingSpec

COMPACT_FILE = "compact.npz"
_TOKENIZER_FILE = "tokenizer.json"
# Below this, `tokenizer.json` itself opens fast enough.
FEWEST_PIECES = 100_000
# tokenizers' K_UNK_PENALTY: how much worse an unknown character is than the worst piece.
_UNKNOWN_PENALTY = 10.0
# The cache of words holds at most so many, none longer: some 20 MB whatever the texts are.
_CACHED_WORDS, _LONGEST_CACHED = 16_384, 64


def write_compact(folder: Path) -> bool:
    """Writes the compact form of the folder's `tokenizer.json`, if it has one; whether it did.

    Only for large Unigram models without byte fallback whose template is special tokens around the text.
    """
    data = (folder / _TOKENIZER_FILE).read_bytes()
    document = json.loads(data)
    model, added = document["model"], [token["content"] for token in document["added_tokens"]]
    around = _around(document.get("post_processor"))
    if model.get("type") != "Unigram" or len(model["vocab"]) < FEWEST_PIECES or around is None:
        return False
    pieces, scores = zip(*model["vocab"], strict=True)
    plain = all(token["special"] and not token["normalized"] for token in document["added_tokens"])
    parted = len(set(pieces)) == len(pieces) and not any("\n" in piece for piece in pieces)
    known = model.get("unk_id") is not None and not model.get("byte_fallback")
    if not (plain and parted and known):
        return False
    # The shell keeps all but the pieces: the added tokens are matched here, and refer to ids it has not.
    shell = document | {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    shell["model"] = model | {"vocab": [["<unk>", 0.0]], "unk_id": 0}
    header = {
        "digest": _digest(data), "shell": shell, "unknown": model["unk_id"], "added": added,
        "before": around[0], "after": around[1],
    }  # fmt: skip
    np.savez_compressed(
        folder / COMPACT_FILE,
        header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
        pieces=np.frombuffer("\n".join(pieces).encode(), dtype=np.uint8),
        scores=np.array(scores, dtype=np.float64),
    )
    return True


class CompactTokenizer:
    """Ids of texts, equal to those of the `tokenizer.json` it was made from."""

    def __init__(self, header: _Header, pieces: Sequence[str], scores: Sequence[float]) -> None:
        self.shell = Tokenizer.from_str(json.dumps(header.shell))
        self.added = header.added
        self._before, self._after = header.before, header.after
        self._unknown = header.unknown
        self._unknown_score = min(scores) - _UNKNOWN_PENALTY
        self._ids = dict(zip(pieces, range(len(pieces)), strict=True))
        self._scores = scores
        self._longest = max(map(len, pieces))
        self._word = lru_cache(_CACHED_WORDS)(self._best_path)

    def encode(self, text: str, spec: EncodingSpec) -> list[int] | None:
        """The ids, special tokens included; None for a text with an added token in it: not for here."""
        if any(token in text for token in self.added):
            return None
        if self.shell.normalizer is not None:
            text = self.shell.normalizer.normalize_str(text)
        ids: list[int] = []
        for word, _ in self.shell.pre_tokenizer.pre_tokenize_str(text):
            ids += self._word(word) if len(word) <= _LONGEST_CACHED else self._best_path(word)
        room = spec.max_length - len(self._before) - len(self._after)
        if len(ids) > room:
            ids = ids[:room] if spec.truncation_side == "right" else ids[len(ids) - room :]
        return [*self._before, *ids, *self._after]

    def _best_path(self, word: str) -> tuple[int, ...]:
        """The Viterbi path of one word; runs of unknown characters are one token."""
        ids, scores, size = self._ids, self._scores, len(word)
        best: list[float] = [0.0] * (size + 1)
        came_from: list[int] = [-1] * (size + 1)
        token: list[int] = [-1] * (size + 1)
        for start in range(size):
            here, single = best[start], False
            for end in range(start + 1, min(size, start + self._longest) + 1):
                id = ids.get(word[start:end])
                if id is None:
                    continue
                score = scores[id] + here
                if came_from[end] < 0 or score > best[end]:
                    best[end], came_from[end], token[end] = score, start, id
                single = single or end == start + 1
            if not single:
                score, end = self._unknown_score + here, start + 1
                if came_from[end] < 0 or score > best[end]:
                    best[end], came_from[end], token[end] = score, start, self._unknown
        path: list[int] = []
        end = size
        while end > 0:
            if not (token[end] == self._unknown and path and path[-1] == self._unknown):
                path.append(token[end])
            end = came_from[end]
        return tuple(reversed(path))


def open_compact(folder: Path, spec: EncodingSpec) -> CompactTokenizer | None:
    """The compact form in a folder; None where there is none, or where it is of another `tokenizer.json`.

    Raises:
        ArtifactError: it is damaged.
    """
    file = folder / COMPACT_FILE
    if not file.is_file() or spec.lower_case:
        return None
    try:
        arrays = read_arrays(file)
        header = msgspec.convert(json.loads(arrays["header"].tobytes()), _Header)
        if header.digest != _digest(read_whole(folder / _TOKENIZER_FILE)):
            return None
        pieces, scores = arrays["pieces"].tobytes().decode("utf-8").split("\n"), arrays["scores"]
        sums = scores.dtype == np.float64 and scores.shape == (len(pieces),) and np.isfinite(scores).all()
        if not sums or not 0 <= header.unknown < len(pieces):
            raise ArraysError("it has not a score for each piece")
        with panics_as_errors():
            return CompactTokenizer(header, pieces, scores.tolist())
    except Exception as error:  # the tokenizers package raises bare Exception
        raise ArtifactError(
            f"{file} is damaged", why=str(error).partition("\n")[0], fix="Copy or build the artifact again"
        ) from None


class _Header(msgspec.Struct):
    """The tokenizer without its pieces, and what it needs besides: `digest` is of the `tokenizer.json`."""

    digest: str
    shell: dict[str, Any]
    unknown: int
    added: list[str]
    before: list[int]
    after: list[int]


def _around(processor: dict[str, Any] | None) -> tuple[list[int], list[int]] | None:
    """The ids that a template puts before and after one text; None for another kind of template."""
    if processor is None:
        return [], []
    if processor["type"] != "TemplateProcessing":
        return None
    before: list[int] = []
    after: list[int] = []
    side = before
    for part in processor["single"]:
        if "Sequence" in part:
            side = after
        else:
            side += processor["special_tokens"][part["SpecialToken"]["id"]]["ids"]
    return before, after


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
