"""What a measurement encodes: real text at about 8, 32, 128 and 512 tokens, and the mix as it comes.

The built-in texts are the probe set, which no calibration has seen, so that the parity that is measured on
them beside the speed is honest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ringkas import texts as text_sets
from ringkas.errors import TargetError, TextError
from ringkas.tokens import TextTokenizer

SINGLE_STREAM: Literal["single-stream"] = "single-stream"
OFFLINE: Literal["offline"] = "offline"
SERVER: Literal["server"] = "server"
Scenario = Literal["single-stream", "offline", "server"]
SCENARIOS: tuple[Scenario, ...] = (SINGLE_STREAM, OFFLINE, SERVER)

LENGTHS = (8, 32, 128, 512)
MIX = "mix"
_PER_LENGTH = 4  # texts of about the same length that take turns
_TOLERANCE = 0.25
_JOINED_FROM = 256  # texts that a run of neighbours may start at: a user's file may have a million
# BCP-47's older names of languages that have built-in texts.
_RENAMED = {"in": "id", "tl": "fil"}


@dataclass(frozen=True)
class Case:
    """Texts that belong together, and how many tokens they have (special tokens included) in all.

    In a single stream they are encoded one at a time, in turn; offline all in one call; for a server they
    arrive one by one.
    """

    name: str
    scenario: Scenario
    texts: tuple[str, ...]
    tokens: int

    @property
    def one_at_a_time(self) -> bool:
        return self.scenario != OFFLINE


def cases(tokenizer: TextTokenizer, texts: Sequence[str], scenarios: Sequence[Scenario]) -> list[Case]:
    """The cases of `scenarios` over `texts`.

    Raises:
        TextError: there is no text to measure with.
    """
    listed = [text for text in texts if text.strip()]
    if not listed:
        raise TextError("there is no text to measure with", why="every one is empty")
    counts = _counts(tokenizer, listed)
    found: list[Case] = []
    if SINGLE_STREAM in scenarios:
        found += _by_length(tokenizer, listed, counts)
    for name, scenario in ((MIX, SINGLE_STREAM), (OFFLINE, OFFLINE), (SERVER, SERVER)):
        if scenario in scenarios:
            found.append(Case(name, scenario, tuple(listed), sum(counts)))
    return found


def built_in_texts(language: str) -> tuple[str, ...]:
    """The probe texts of a language, given by its BCP-47 tag.

    Raises:
        TargetError: it has none.
    """
    known = built_in_language(language)
    if known is None:
        raise TargetError(
            f"there are no built-in texts of the language {language!r}",
            fix=f"Choose from {', '.join(text_sets.LANGUAGES)}, or measure with your own: --texts FILE",
        )
    return text_sets.probe([known])[known]


def built_in_language(tag: str) -> str | None:
    """The name of a tag's language among the built-in texts; None if they have none of it."""
    base = text_sets.base_language(tag)
    known = _RENAMED.get(base, base)
    return known if known in text_sets.LANGUAGES else None


def _by_length(tokenizer: TextTokenizer, texts: Sequence[str], own: Sequence[int]) -> list[Case]:
    """Single texts of each length, from `texts` of `own` tokens and from runs of them."""
    runs = _joined(texts, own, max(LENGTHS))
    candidates = dict(zip([*texts, *runs], [*own, *_counts(tokenizer, runs)], strict=True))
    listed, counts = list(candidates), np.array(list(candidates.values()))
    found: dict[int, Case] = {}
    for length in LENGTHS:
        asked = min(length, tokenizer.max_length)
        nearest = np.argsort(np.abs(counts - asked), kind="stable")[:_PER_LENGTH]
        near = [int(row) for row in nearest if abs(counts[row] - asked) <= _TOLERANCE * asked]
        if near:
            chosen = tuple(listed[row] for row in near)
            found.setdefault(asked, Case(f"{asked} tokens", SINGLE_STREAM, chosen, int(counts[near].sum())))
    return list(found.values())


def _joined(texts: Sequence[str], counts: Sequence[int], longest: int) -> list[str]:
    """Runs of neighbours joined by spaces, up to about `longest` tokens."""
    found: list[str] = []
    for start in range(min(len(texts), _JOINED_FROM)):
        total, end = counts[start], start + 1
        while end < len(texts) and total < longest:
            total += counts[end]
            end += 1
            found.append(" ".join(texts[start:end]))
    return found


def _counts(tokenizer: TextTokenizer, texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in tokenizer.encode(texts)]
