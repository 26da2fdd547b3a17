"""Progress: what is done, and for how long still."""

from __future__ import annotations

import pytest

from ringkas.progress import Progress


def test_steps_say_how_much_is_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 1000, 4))
    monkeypatch.setattr("ringkas.progress.time.perf_counter", lambda: float(next(now)))
    with Progress().steps("rounding", 4) as done:
        for _ in range(4):
            done()
    lines = capsys.readouterr().err.splitlines()
    # Four seconds a step, the first counted from before the stage was announced.
    assert lines[:-1] == [
        "rounding ...",
        "  rounding: 1 of 4, about 24 s more",
        "  rounding: 3 of 4, about 5 s more",
    ]
    assert lines[-1].startswith("rounding: ")


def test_a_quiet_one_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(quiet=True).steps("rounding", 1) as done:
        done()
    assert capsys.readouterr().err == ""
