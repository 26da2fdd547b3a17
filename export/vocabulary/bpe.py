"""BPE, of bytes (ModernBERT, Llama) or of characters with byte fallback (Gemma).

Merges inside the span of a final token happen in the order in which they would happen to that span alone,
since nothing merges across its ends. So each token has one derivation, whatever the text. When the kept
tokens are closed under it, every merge that a covered text uses is still there; removing other merges only
removes choices that were not taken.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

THEOREM = (
    "BPE: the kept tokens are closed under the merges that build each of them, and all merges among kept "
    "tokens stay in order, so a text is segmented as before if and only if every token of its segmentation "
    "is kept."
)
# Word lists are in lower case and rate names and acronyms low; the order of merges knows better. Chosen among
# 0, 0.1, 0.2, 0.35 and 0.5 on English glosses, quotations and essays, with Gemma's vocabulary.
TRUST = 0.35
_SPACE_MARK = "▁"
_ZIPF_OFFSET = 500  # the earliest merges are halves of words and rarely survive in a segmentation


def tokens(document: Mapping[str, Any]) -> list[str]:
    """The tokens by id, as the file spells them."""
    vocabulary: dict[str, int] = document["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def surfaces(document: Mapping[str, Any]) -> list[str]:
    """What each token spells; half a character of a byte-level token becomes U+FFFD."""
    if not is_byte_level(document):
        return [token.replace(_SPACE_MARK, "") for token in tokens(document)]
    alphabet = byte_alphabet()
    return [
        bytes(alphabet.get(character, 0x3F) for character in token).decode("utf-8", "replace").strip(" ")
        for token in tokens(document)
    ]


def log_probabilities(document: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Zipf's law over the order of the merges, and over the order of what no merge makes."""
    vocabulary: dict[str, int] = document["model"]["vocab"]
    rank = np.full(len(vocabulary), -1, dtype=np.int64)
    made = dict.fromkeys(vocabulary[left + right] for left, right in _merges(document))
    for order, id in enumerate(sorted(made)):
        rank[id] = order
    unmade = np.flatnonzero(rank < 0)
    # A character spelled alone is rarer than the words that hold it: it ranks among the later merges.
    rank[unmade] = np.linspace(0, len(rank), len(unmade)).astype(np.int64)
    logs: npt.NDArray[np.float64] = -np.log(rank + float(_ZIPF_OFFSET))
    return logs


def indispensable(document: Mapping[str, Any]) -> set[int]:
    """The unknown token, the whitespace mark and all 256 bytes."""
    model, vocabulary = document["model"], document["model"]["vocab"]
    wanted = {model.get("unk_token"), _SPACE_MARK, *(f"<0x{byte:02X}>" for byte in range(256))}
    if is_byte_level(document):
        wanted |= set(byte_alphabet())
    return {vocabulary[token] for token in wanted if token in vocabulary}


def parents(document: Mapping[str, Any]) -> dict[int, tuple[int, ...]]:
    """The two tokens whose merge makes each token last, in the derivation of that token alone."""
    vocabulary: dict[str, int] = document["model"]["vocab"]
    candidates: dict[int, list[tuple[str, str]]] = {}
    merges = _merges(document)
    for left, right in merges:
        candidates.setdefault(vocabulary[left + right], []).append((left, right))
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    found: dict[int, tuple[int, ...]] = {}
    for id, pairs in candidates.items():
        left, right = pairs[0] if len(pairs) == 1 else _last_merge("".join(pairs[0]), ranks) or pairs[0]
        found[id] = (vocabulary[left], vocabulary[right])
    return found


def rewrite(document: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """The model with the tokens `kept`, ascending old ids, and every merge among them."""
    listed = tokens(document)
    vocabulary = {listed[id]: new for new, id in enumerate(kept)}
    merges = [
        [left, right]
        for left, right in _merges(document)
        if left in vocabulary and right in vocabulary and left + right in vocabulary
    ]
    return {**document["model"], "vocab": vocabulary, "merges": merges}


def is_byte_level(document: Mapping[str, Any]) -> bool:
    """Whether tokens are spelled in the 256 printable stand-ins for bytes."""
    return any(
        _has_type(document.get(part), "ByteLevel") for part in ("pre_tokenizer", "decoder", "normalizer")
    )


def byte_alphabet() -> dict[str, int]:
    """GPT-2's table: the character that stands for each byte, and the byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


def _merges(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    # Older files write a merge as one string, "left right".
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in document["model"]["merges"])
    return [(left, right) for left, right in pairs]


def _last_merge(text: str, ranks: Mapping[tuple[str, str], int]) -> tuple[str, str] | None:
    """The merge that completes `text` when it is segmented alone; None if it does not become one token."""
    parts: list[str | None] = list(text)
    following, before = list(range(1, len(parts) + 1)), list(range(-1, len(parts) - 1))
    queue: list[tuple[int, int, str, str]] = []

    def offer(at: int) -> None:
        after = following[at]
        if after < len(parts):
            left, right = parts[at], parts[after]
            if left is not None and right is not None and (left, right) in ranks:
                heapq.heappush(queue, (ranks[left, right], at, left, right))

    for at in range(len(parts) - 1):
        offer(at)
    last = None
    while queue:
        _, at, left, right = heapq.heappop(queue)
        after = following[at]
        if parts[at] != left or after >= len(parts) or parts[after] != right:
            continue  # one of the two has merged with another since
        last = (left, right)
        parts[at], parts[after] = left + right, None
        following[at] = following[after]
        if following[at] < len(parts):
            before[following[at]] = at
        offer(at)
        if before[at] >= 0:
            offer(before[at])
    return last if parts and parts[0] == text else None


def _has_type(component: object, name: str) -> bool:
    if isinstance(component, Mapping):
        return component.get("type") == name or any(_has_type(value, name) for value in component.values())
    return isinstance(component, list) and any(_has_type(value, name) for value in component)
