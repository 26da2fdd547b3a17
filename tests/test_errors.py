"""An error is one line of sentences: what, why, what to do."""

from __future__ import annotations

import pickle

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
    panics_as_errors,
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


def test_message_moves_no_cursor_and_is_no_longer_than_a_screen() -> None:
    error = RingkasError("a \x1b[2J\x00 name\u202e of\nhostile\torigin", why="x" * 10_000, fix="Delete it")
    assert str(error).isprintable()
    assert len(str(error)) < 700
    assert len(str(RingkasError("y" * 10_000 + " lists no model file"))) < 600
    assert r"\x1b[2J\x00 name\u202e of hostile origin" in str(error)
    assert "한국어 ไทย မြန်မာ" in str(RingkasError("한국어 ไทย မြန်မာ"))


def test_panic_of_rust_is_an_error() -> None:
    class PanicException(BaseException):
        """As pyo3 names it."""

    with pytest.raises(RuntimeError, match="index out of range"), panics_as_errors():
        raise PanicException("index out of range\nnote: run with RUST_BACKTRACE=1")
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "error",
    [
        TextError("it broke", why="it was old", fix="Buy another"),
        MissingExtra("onnxruntime", "onnx"),
        MissingExtra("torch", "export", fix="Install it"),
    ],
)
def test_another_process_raises_the_same(error: RingkasError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (type(error), str(error))
    assert (again.what, again.why, again.fix) == (error.what, error.why, error.fix)
