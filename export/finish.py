"""A written folder becomes a judged artifact; and what the module of every format has.

Each module that formats.py names has the functions of `Writer`. The checks come before any work, the writer
leaves its files in the job's folder, and the judge's report is left beside them as `parity.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import msgspec

from ringkas.artifact import PARITY_FILE, Artifact, Manifest, Source, seal
from ringkas.checkpoint import Checkpoint
from ringkas.export.layout import write_layout
from ringkas.export.model_card import model_card
from ringkas.files import write_json
from ringkas.machine import tool_versions
from ringkas.progress import Progress
from ringkas.runtimes.encoder import load
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.runtimes.parity.probe import Probe, save_probe
from ringkas.runtimes.parity.search import SearchParity
from ringkas.runtimes.parity.verify import compare
from ringkas.targets import Target
from ringkas.targets import target as target_of

CARD_FILE = "README.md"

if TYPE_CHECKING:
    from ringkas.export.build import BuildOptions
    from ringkas.quantize.for_onnx.twin import Quantizer


@dataclass(frozen=True)
class Written:
    """What a writer left in the folder: the file that the engine opens, how the weights are stored, and what
    is still to be done where that is not all."""

    model_file: str
    scheme: Mapping[str, object]
    execution: str = ""


@dataclass
class Shared:
    """What the writer of one target of a build leaves for the next: a calibrated quantizer."""

    quantizer: Quantizer | None = None


@dataclass(frozen=True)
class Job:
    """One artifact to make: from what, as what, into which folder, and how.

    `following` is the target that is made of the same checkpoint after this one, `shared` what writers leave
    for it.
    """

    checkpoint: Checkpoint
    target: Target
    folder: Path
    options: BuildOptions
    progress: Progress
    following: Target | None = None
    shared: Shared = field(default_factory=Shared)


class Writer(Protocol):
    """The functions of a format's module."""

    def check(self, checkpoint: Checkpoint, target: Target, options: BuildOptions) -> None:
        """Refuses what cannot be made, before any work is done."""

    def write(self, job: Job) -> Written:
        """Writes the files that the engine needs into the job's folder, which has the common ones already."""

    def judge(self, job: Job, artifact: Artifact, probe: Probe) -> ParityReport:
        """Compares the artifact with the reference and leaves the report in it."""

    def card(self, manifest: Manifest, folder: Path) -> str:
        """How to use what is in the folder without ringkas, in Markdown, for the model card."""


def writer_of(target: Target) -> Writer:
    """The module of a target's format."""
    return cast(Writer, import_module(target.format.writer))


def make(job: Job, probing: Callable[[], Probe]) -> ParityReport:
    """Writes the job's artifact, seals it and judges it by what `probing` gives; the report."""
    writer = writer_of(job.target)
    with job.progress.stage(f"writing {job.target.name}"):
        write_layout(job.checkpoint, job.folder)
        written = writer.write(job)
    probe = probing()
    artifact = finish(job.checkpoint, job.target, written, probe, job.folder)
    return writer.judge(job, artifact, probe)


def finish(
    checkpoint: Checkpoint,
    target: Target,
    written: Written,
    probe: Probe,
    folder: Path,
    promise: float | None = None,
) -> Artifact:
    """What makes a written folder an artifact: the probe, the model card, the manifest.

    `promise` is the cosine minimum that was asked for, where it was: parity is then judged by it too.
    """
    save_probe(probe, folder)
    manifest = Manifest(
        name=checkpoint.name,
        target=target.name,
        engine=target.engine,
        precision=target.precision,
        source=Source(checkpoint.origin, checkpoint.revision, checkpoint.licence, checkpoint.note),
        encoding=checkpoint.spec,
        model_file=written.model_file,
        scheme=dict(written.scheme),
        languages=checkpoint.languages,
        vocabulary=checkpoint.vocabulary,
        tools=tool_versions(),
        promised_cosine_min=promise,
        execution=written.execution,
        witness=probe.witness,
    )
    return write_card_and_seal(folder, manifest)


def write_card_and_seal(folder: Path, manifest: Manifest, changed: Sequence[str] | None = None) -> Artifact:
    """Writes the model card and lists every file in the manifest; `changed` is as in `seal`."""
    usage = writer_of(target_of(manifest.target)).card(manifest, folder)
    (folder / CARD_FILE).write_text(model_card(manifest, usage), encoding="utf-8")
    return seal(folder, manifest, None if changed is None else [*changed, CARD_FILE])


def state_search(artifact: Artifact, found: Sequence[SearchParity]) -> Artifact:
    """The artifact with what it is worth at search in its manifest and its model card."""
    if not found:
        return artifact
    search = list(msgspec.to_builtins(found))
    return write_card_and_seal(artifact.path, msgspec.structs.replace(artifact.manifest, search=search), ())


def judge_artifact(artifact: Artifact, probe: Probe, progress: Progress, where: str = "") -> ParityReport:
    """Runs the artifact on the probe set and leaves the report beside it; `where` it runs is for the eye."""
    # It was sealed a moment ago: its files are not compared with their checksums once more.
    with (
        progress.stage(f"verifying {artifact.manifest.target}{where}"),
        load(artifact, check=False) as encoder,
    ):
        report = compare(artifact, encoder, probe)
    record(artifact, report)
    return report


def record(artifact: Artifact, report: ParityReport) -> Artifact:
    """Leaves a report beside the artifact, and states in it what the report says of search."""
    artifact = state_search(artifact, report.search)
    write_json(artifact.path / PARITY_FILE, report)
    return artifact
