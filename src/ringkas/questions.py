"""The built-in retrieval set: questions in each language, and the passages that answer them.

It measures what a low-bit or pruned artifact costs at search. Twenty questions a language resolve little: one
wrong passage ranked above both answers to a single question costs the language 0.015 of nDCG@10. The set
shares no text with `probe` and `calibration`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ringkas.texts import LANGUAGES, base_language


@dataclass(frozen=True)
class Question:
    """A query, and the passages of its language that answer it: all others are wrong answers to it."""

    query: str
    passages: tuple[str, ...]


QuestionsByLanguage = dict[str, tuple[Question, ...]]


def questions(languages: Iterable[str] = ()) -> QuestionsByLanguage:
    """The questions of `languages` (BCP-47 tags; all when none are named), by language.

    A language without questions is left out.
    """
    wanted = {base_language(language) for language in languages}
    return {language: _questions(language) for language in LANGUAGES if not wanted or language in wanted}


def passages(asked: Sequence[Question]) -> tuple[str, ...]:
    """Every passage of `asked`, in order: what is searched."""
    return tuple(passage for question in asked for passage in question.passages)


def relevant(asked: Sequence[Question]) -> tuple[tuple[int, ...], ...]:
    """For each question the positions in `passages(asked)` of those that answer it."""
    found, start = [], 0
    for question in asked:
        found.append(tuple(range(start, start + len(question.passages))))
        start += len(question.passages)
    return tuple(found)


@cache
def _questions(language: str) -> tuple[Question, ...]:
    text = (files("ringkas") / "data" / "retrieval" / f"{language}.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.removesuffix("\n").split("\n")]
    return tuple(Question(row["query"], tuple(row["passages"])) for row in rows)
