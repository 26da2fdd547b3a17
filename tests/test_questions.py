"""The built-in retrieval set: its size, its scripts, and that each passage answers one question only."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from ringkas import questions
from ringkas.questions import Question
from ringkas.texts import LANGUAGES

# A letter that every text of the language has, by Unicode block.
SCRIPTS = {
    "zh": r"[\u4e00-\u9fff]",
    "ko": r"[\uac00-\ud7a3]",
    "th": r"[\u0e00-\u0e7f]",
    "my": r"[\u1000-\u109f]",
    "km": r"[\u1780-\u17ff]",
    "lo": r"[\u0e80-\u0eff]",
    "ta": r"[\u0b80-\u0bff]",
    "ja": r"[\u3040-\u30ff]",
}


def lines(asked: tuple[Question, ...]) -> list[str]:
    return [*(question.query for question in asked), *questions.passages(asked)]


def complaints(language: str, asked: tuple[Question, ...]) -> list[str]:
    """What is wrong with a language's questions."""
    found = []
    if len(asked) < 20 or len(questions.passages(asked)) < 40:
        found.append("too few")
    if any(len(question.passages) < 2 for question in asked):
        found.append("a question with one answer")
    counts = Counter(" ".join(line.casefold().split()) for line in lines(asked))
    found += [f"twice: {line}" for line, times in counts.items() if times > 1]
    script = SCRIPTS.get(language, "[A-Za-z]")
    found += [f"not {language}: {line}" for line in lines(asked) if not re.search(script, line)]
    found += [f"blank space around: {line!r}" for line in lines(asked) if line != line.strip()]
    return found


def test_every_language_has_questions() -> None:
    assert tuple(questions.questions()) == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_questions_are_whole(language: str) -> None:
    assert complaints(language, questions.questions()[language]) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_wrong_is_noticed(language: str) -> None:
    asked = questions.questions()[language]
    doubled = (*asked[:-1], Question(asked[-1].query, (asked[0].passages[0], asked[-1].passages[1])))
    assert complaints(language, doubled)
    assert complaints(language, asked[:-1]) == ["too few"]
    assert complaints(language, (*asked, Question("1234?", ("5678.", "90.")))) != []
    assert complaints(language, (*asked, Question(f"{asked[0].query} {asked[1].query}", ("A 가", "A 가"))))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_question_is_not_copied_into_its_answers(language: str) -> None:
    """Else matching strings would find them, and nothing would be learnt about the vectors."""
    for question in questions.questions()[language]:
        for passage in question.passages:
            assert question.query.rstrip("?？。") not in passage


def test_positions_of_the_answers() -> None:
    asked = (Question("a", ("1", "2")), Question("b", ("3",)), Question("c", ("4", "5", "6")))
    assert questions.passages(asked) == ("1", "2", "3", "4", "5", "6")
    assert questions.relevant(asked) == ((0, 1), (2,), (3, 4, 5))
    for question, positions in zip(asked, questions.relevant(asked), strict=True):
        assert tuple(questions.passages(asked)[position] for position in positions) == question.passages


@pytest.mark.parametrize(
    ("tags", "expected"),
    [(["ko", "en-US"], ["en", "ko"]), (["zh-Hant"], ["zh"]), (["fr"], []), (["FIL"], ["fil"])],
)
def test_languages_choose(tags: list[str], expected: list[str]) -> None:
    assert list(questions.questions(tags)) == expected


def test_lines_hold_a_query_and_its_passages_and_nothing_else() -> None:
    folder = Path(questions.__file__).parent / "data" / "retrieval"
    assert {file.stem for file in folder.glob("*.jsonl")} == set(LANGUAGES)
    for file in folder.glob("*.jsonl"):
        for line in file.read_text("utf-8").splitlines():
            assert set(json.loads(line)) == {"query", "passages"}
