"""What is printed for people is what was measured, whatever the texts hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from ringkas import verify
from ringkas.commands.printing import print_report


def test_brackets_in_a_text_are_no_markup(
    demo_artifacts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.txt").write_text("a[i] = [/url] :smile:\nanother\nthird\n", encoding="utf-8")
    report = verify(
        demo_artifacts / "onnx-fp32", reference="demo", texts=[tmp_path / "own.txt"], record=False
    )
    own = next(group for group in report.groups if group.group == "own.txt")
    print_report(report)
    assert own.worst_text[:30] in capsys.readouterr().out
