"""An error is one line of sentences: what, why, what to do."""

from __future__ import annotations

import pytest

from ringkas.errors import (
    ArtifactError,
    CheckpointError,
    MissingExtra,
    RingkasError,
    TargetError,
    TextError,
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


@pytest.mark.parametrize("kind", [ArtifactError, CheckpointError, TargetError, TextError])
def test_every_kind_is_caught_as_one(kind: type[RingkasError]) -> None:
    with pytest.raises(RingkasError):
        raise kind("it broke")


def test_missing_extra_gives_the_exact_command() -> None:
    assert str(MissingExtra("onnxruntime", "onnx")).endswith("Run: pip install 'ringkas[onnx]'.")
