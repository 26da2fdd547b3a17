"""`ringkas bench`: artifacts side by side, each row with its parity, under the machine's own ceiling."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from ringkas import texts as text_sets
from ringkas.artifact import Artifact, open_artifact
from ringkas.errors import MissingExtra
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.ceiling import Ceiling, measure_ceiling
from ringkas.runtimes.measure import Measured, Plan, Subject, measure, offline_case, single_text_cases
from ringkas.runtimes.verify import tool_versions
from ringkas.tokens import TextTokenizer

REFERENCE_NAME = "PyTorch"
SCHEMA_VERSION = 1


class BenchRow(msgspec.Struct, frozen=True):
    """One subject. Size and parity are None for the reference, parity also for an unverified artifact."""

    measured: Measured
    size: int | None = None
    passed: bool | None = None
    cosine_min: float | None = None
    cosine_mean: float | None = None


class BenchResult(msgspec.Struct, frozen=True):
    """The whole run. `threads` is None where the engine chose."""

    rows: tuple[BenchRow, ...]
    ceiling: Ceiling | None
    plan: Plan
    tools: dict[str, str]
    schema_version: int = SCHEMA_VERSION


def bench(
    folders: Sequence[Path],
    reference: str | None = None,
    plan: Plan | None = None,
    progress: Progress = QUIET,
) -> BenchResult:
    """Measures the artifacts in `folders` and, if one is named, the PyTorch `reference` beside them.

    The texts are built-in ones of the first artifact's first language.
    """
    plan = plan or Plan()
    artifacts = [open_artifact(folder) for folder in folders]
    subjects = [Subject(_name(artifact, artifacts), artifact=artifact.path) for artifact in artifacts]
    behind: list[Artifact | None] = [*artifacts]
    if reference is not None:
        subjects.insert(0, Subject(REFERENCE_NAME, reference=reference))
        behind.insert(0, None)
    tokenizer = TextTokenizer(artifacts[0].path, artifacts[0].manifest.encoding)
    texts = _texts(artifacts[0])
    cases = [*single_text_cases(tokenizer, texts), offline_case(tokenizer, texts)]
    measured = measure(subjects, cases, plan, progress)
    return BenchResult(
        rows=tuple(map(_row, measured, behind)),
        ceiling=_ceiling(plan.threads, progress),
        plan=plan,
        tools=tool_versions(),
    )


def _texts(artifact: Artifact) -> tuple[str, ...]:
    language = next((one for one in artifact.manifest.languages if one in text_sets.LANGUAGES), "en")
    return text_sets.probe([language])[language]


def _row(measured: Measured, artifact: Artifact | None) -> BenchRow:
    if artifact is None:
        return BenchRow(measured)
    report = artifact.parity()
    if report is None:
        return BenchRow(measured, artifact.size)
    return BenchRow(measured, artifact.size, report.passed, report.cosine_min, report.cosine_mean)


def _name(artifact: Artifact, all_of_them: Sequence[Artifact]) -> str:
    """The target, unless two share it."""
    name = artifact.manifest.target
    return name if sum(other.manifest.target == name for other in all_of_them) == 1 else str(artifact.path)


def _ceiling(threads: int | None, progress: Progress) -> Ceiling | None:
    try:
        with progress.stage("measuring the machine's ceiling"):
            return measure_ceiling(threads)
    except MissingExtra as error:
        progress.say(f"no ceiling: {error}")
        return None
