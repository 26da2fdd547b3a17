"""An error is one line of sentences: what, why, what to do."""

from __future__ import annotations

import pytest

from ringkas import errors
from ringkas.errors import (
    ArtifactError,
    CheckpointError,
    MissingExtra,
    RingkasError,
    TargetError,
    TextError,
    WishError,
)


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "it broke."),
        ({"why": "it was old"}, "it broke: it was old."),
        ({"fix": "Buy another"}, "it broke. Buy another."),
        ({"why": "it was old", "fix": "Buy another!"}, "it broke: it was old. Buy another!"),
        ({"why": "it was\n  very\told\n"}, "it broke: it was very old."),
    ],
)
def test_reads_as_sentences_on_one_line(parts: dict[str, str], line: str) -> None:
    assert str(RingkasError("it broke", **parts)) == line


def test_keeps_its_parts() -> None:
    error = TextError("what", why="why", fix="fix")
    assert (error.what, error.why, error.fix) == ("what", "why", "fix")


def test_every_error_of_the_module_is_caught_as_one() -> None:
    raised = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]
    assert {ArtifactError, CheckpointError, MissingExtra, TargetError, TextError, WishError} <= set(raised)
    assert all(issubclass(one, RingkasError) for one in raised)


def test_missing_extra_gives_the_exact_command() -> None:
    assert str(MissingExtra("onnxruntime", "onnx")) == (
        "onnxruntime is not installed: this needs the extra [onnx]. Run: pip install 'ringkas[onnx]'."
    )
