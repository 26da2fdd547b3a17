"""`ringkas bench`: artifacts side by side, each row with its parity, above the machine's own floor."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ringkas.artifact import Artifact, open_artifact
from ringkas.checkpoint import open_checkpoint
from ringkas.errors import MissingExtra
from ringkas.machine import tool_versions
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.measure import ceiling as ceilings
from ringkas.runtimes.measure.arrivals import Served, serve_rounds
from ringkas.runtimes.measure.cases import MIX, SERVER, Case, built_in_language, built_in_texts, cases
from ringkas.runtimes.measure.ceiling import Ceiling
from ringkas.runtimes.measure.intervals import Ratio, paired_ratio
from ringkas.runtimes.measure.least_time import floor_ms, work_of
from ringkas.runtimes.measure.machine import Machine, describe_machine
from ringkas.runtimes.measure.rounds import Measured, Procedure, measured, open_workers, time_rounds
from ringkas.runtimes.measure.worker import Subject, Worker
from ringkas.runtimes.parity.floors import floor_of
from ringkas.runtimes.parity.judge import cosine
from ringkas.runtimes.parity.probe import load_probe
from ringkas.runtimes.parity.verify import covered_rows, full_ids
from ringkas.tokens import TextTokenizer

REFERENCE_NAME = "PyTorch"
SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Lineup:
    """Who is measured, and on what.

    Args:
        artifacts: folders; the first one's tokenizer counts the tokens.
        reference: the model that PyTorch runs beside them.
        peers: other engines, each behind a command of its own.
        texts: to measure with; none takes the built-in ones.
        language: of the built-in texts; None takes the first artifact's first language, or English where it
            names none or there are no texts of it.
    """

    artifacts: tuple[Path, ...]
    reference: str | None = None
    peers: tuple[Subject, ...] = ()
    texts: tuple[str, ...] = ()
    language: str | None = None


class Fidelity(msgspec.Struct, frozen=True):
    """Cosines with the reference, measured in this run. `passed` is None for a peer, which has no floor."""

    texts: int
    cosine_min: float
    cosine_mean: float
    passed: bool | None


class BenchRow(msgspec.Struct, frozen=True, kw_only=True):
    """One subject. `ratios` are to the first row's times, by case; `floors_ms` the least a call can take."""

    measured: Measured
    target: str | None = None
    size: int | None = None
    fidelity: Fidelity | None = None
    ratios: dict[str, Ratio] = {}
    floors_ms: dict[str, float] = {}
    served: Served | None = None


class BenchResult(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run. `compared_on`: the texts of the cosines, if any; `texts_sha256` names the timed ones."""

    rows: tuple[BenchRow, ...]
    plan: Procedure
    machine: Machine
    tools: dict[str, str]
    compared_on: str
    texts_sha256: str
    ceiling: Ceiling | None = None
    schema_version: int = SCHEMA_VERSION


def bench(lineup: Lineup, plan: Procedure | None = None, progress: Progress = QUIET) -> BenchResult:
    """Measures everything in `lineup` side by side.

    Raises:
        RingkasError: an artifact cannot be opened, the language has no texts, or a worker died.
    """
    plan = plan or Procedure()
    machine = describe_machine()  # before the run makes a load of its own
    artifacts = [open_artifact(folder) for folder in lineup.artifacts]
    subjects = _subjects(lineup, artifacts)
    timed = _cases(lineup, artifacts[0], plan)
    with ExitStack() as stack:
        workers = stack.enter_context(open_workers(list(subjects), plan.threads, progress))
        with progress.stage("comparing vectors"):
            vectors = _compare(workers, lineup, artifacts[0], timed)
        control = _control(stack, plan, progress)
        schedule = [(worker, case) for case in timed for worker in workers if case.scenario != SERVER]
        schedule += [(worker, case) for worker in control for case in ceilings.CASES]
        rounds = time_rounds(schedule, plan, progress)
        served = _serve(workers, timed, plan, progress)
        records = [measured(worker, rounds.get(worker.name, ())) for worker in workers]
    ceiling = ceilings.ceiling_of(rounds[control[0].name], plan.threads) if control else None
    rows = tuple(
        BenchRow(
            measured=record,
            target=artifact.manifest.target if artifact else None,
            size=artifact.size if artifact else subject.size,
            fidelity=vectors.fidelity(record.name, artifact),
            ratios=_ratios(record, records[0]),
            floors_ms=_floors(artifact, record, ceiling),
            served=served.get(record.name),
        )
        for record, (subject, artifact) in zip(records, subjects.items(), strict=True)
    )
    texts = "\n".join(text for case in timed for text in case.texts)
    return BenchResult(
        rows=rows, plan=plan, machine=machine, tools=tool_versions(), compared_on=vectors.compared_on,
        texts_sha256=hashlib.sha256(texts.encode("utf-8")).hexdigest(), ceiling=ceiling,
    )  # fmt: skip


def _subjects(lineup: Lineup, artifacts: Sequence[Artifact]) -> dict[Subject, Artifact | None]:
    """The reference, the artifacts, the peers, each with its artifact if it has one."""
    subjects: dict[Subject, Artifact | None] = {}
    if lineup.reference is not None:
        subjects[Subject(REFERENCE_NAME, reference=lineup.reference)] = None
    for artifact in artifacts:
        subjects[Subject(_name(artifact, artifacts), artifact=artifact.path)] = artifact
    return subjects | dict.fromkeys(lineup.peers)


def _name(artifact: Artifact, all_of_them: Sequence[Artifact]) -> str:
    """The target, unless two share it."""
    name = artifact.manifest.target
    return name if sum(other.manifest.target == name for other in all_of_them) == 1 else str(artifact.path)


def _cases(lineup: Lineup, first: Artifact, plan: Procedure) -> list[Case]:
    tokenizer = TextTokenizer(first.path, first.manifest.encoding)
    return cases(tokenizer, lineup.texts or built_in_texts(_language(lineup, first)), plan.scenarios)


def _language(lineup: Lineup, first: Artifact) -> str:
    if lineup.language is not None:
        return lineup.language
    return built_in_language(next(iter(first.manifest.languages), "")) or "en"


@dataclass(frozen=True)
class _Compared:
    """Everybody's vectors of the same texts, the reference's, and its token ids."""

    compared_on: str
    reference: Vectors
    token_ids: Sequence[Sequence[int]]
    by_name: Mapping[str, Vectors]

    def fidelity(self, name: str, artifact: Artifact | None) -> Fidelity | None:
        """None for the reference. A pruned artifact is judged on the texts that it covers."""
        if name == REFERENCE_NAME:
            return None
        rows = covered_rows(self.token_ids, artifact.kept_ids() if artifact else None)
        expected, found = self.reference[rows], self.by_name[name][rows]
        if found.shape != expected.shape or not np.isfinite(found).all():
            cosines = np.zeros(len(expected))  # another model, or no numbers: as far off as can be
        else:
            cosines = cosine(expected, found)
        least, mean = (float(cosines.min()), float(cosines.mean())) if len(cosines) else (0.0, 0.0)
        passed = None
        if artifact is not None:
            floor = floor_of(artifact.manifest.precision, artifact.manifest.promised_cosine_min)
            passed = least >= floor.cosine_min and mean >= floor.cosine_mean
        return Fidelity(len(cosines), least, mean, passed)


def _compare(workers: Sequence[Worker], lineup: Lineup, first: Artifact, timed: Sequence[Case]) -> _Compared:
    """With the reference's vectors of the timed texts; without it, with those that the artifact carries."""
    if lineup.reference is None:
        probe = load_probe(first.path)
        found = {worker.name: worker.encode(probe.texts) for worker in workers}
        return _Compared("the probe set", probe.vectors, probe.token_ids, found)
    checkpoint = open_checkpoint(lineup.reference, as_embedder=True)
    texts = tuple(dict.fromkeys(text for case in timed for text in case.texts))
    found = {worker.name: worker.encode(texts) for worker in workers}
    token_ids = TextTokenizer(checkpoint.path, checkpoint.spec).encode(texts)
    return _Compared("the timed texts", found[REFERENCE_NAME], full_ids(checkpoint, token_ids), found)


def _control(stack: ExitStack, plan: Procedure, progress: Progress) -> list[Worker]:
    """The worker of the machine's ceilings, if it can be had."""
    try:
        subject = ceilings.subject()
    except MissingExtra as error:
        progress.say(f"no ceiling: {error}")
        return []
    return stack.enter_context(open_workers([subject], plan.threads, progress))


def _serve(
    workers: Sequence[Worker], timed: Sequence[Case], plan: Procedure, progress: Progress
) -> dict[str, Served]:
    case = next((case for case in timed if case.scenario == SERVER), None)
    if case is None:
        return {}
    return {one.name: one for one in serve_rounds(workers, case, plan, progress)}


def _ratios(record: Measured, first: Measured) -> dict[str, Ratio]:
    pairs = zip(record.timings, first.timings, strict=True)
    return {own.case: paired_ratio(own.rounds, base.rounds) for own, base in pairs}


def _floors(artifact: Artifact | None, record: Measured, ceiling: Ceiling | None) -> dict[str, float]:
    work = work_of(artifact) if artifact else None
    if work is None or ceiling is None:
        return {}
    # The median over texts of many lengths has no floor of its own.
    timings = (timing for timing in record.timings if timing.case != MIX)
    return {timing.case: floor_ms(work, timing, ceiling) for timing in timings}
