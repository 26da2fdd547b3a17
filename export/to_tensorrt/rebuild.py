"""`ringkas rebuild`: the plan of a shipped artifact, built and verified on this machine. Needs no torch."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import msgspec

from ringkas.artifact import PARITY_FILE, Artifact, Manifest, open_artifact, seal
from ringkas.errors import ArtifactError, MissingExtra, TargetError
from ringkas.export.to_tensorrt.finish import add_plan, find_gpu, profiles_for
from ringkas.export.to_tensorrt.plan import PlanOptions, check_gpu, check_options
from ringkas.export.to_tensorrt.triton import PLAN_REPOSITORY
from ringkas.files import refuse_existing, staged_folder, write_json
from ringkas.machine import tool_versions
from ringkas.progress import QUIET, Progress
from ringkas.quantize.for_tensorrt.schemes import tensorrt_scheme
from ringkas.runtimes.engines.onnx_check import check_graph
from ringkas.runtimes.engines.tensorrt_library import LIBRARIES, find_library
from ringkas.runtimes.engines.tensorrt_record import DEFERRED, PLAN_FILE
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.targets import Target
from ringkas.targets import target as target_of


@dataclass(frozen=True)
class Rebuilt:
    """The new artifact, and the newest verdict on it: of the plan on this GPU, or else the oracle's."""

    artifact: Artifact
    report: ParityReport


def rebuild(
    artifact: str | Path,
    target: str,
    out: str | Path,
    options: PlanOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Progress = QUIET,
) -> Rebuilt:
    """Builds the plan of `target` from the typed graph in `artifact`, into `out/<target>`.

    Where there is a GPU the plan is executed on the reference texts that the artifact carries, and the
    report says how near it is. `tensorrt-fp16` can be rebuilt as `tensorrt-rtx-fp16` and back: the graph is
    the same.

    Raises:
        RingkasError: bad input; nothing is left half-written.
    """
    options = options or PlanOptions()
    opened, wanted = open_artifact(artifact), target_of(target)
    _check(opened, wanted, options)
    place = Path(out) / wanted.name
    refuse_existing([place], overwrite=overwrite)
    opened.check_files()
    _check_shipped_graph(opened)
    with staged_folder(place, overwrite=overwrite) as folder:
        report = add_plan(_copy(opened, wanted, folder), options, progress) or _shipped_report(folder, wanted)
    return Rebuilt(open_artifact(place), report)


def _check(opened: Artifact, wanted: Target, options: PlanOptions) -> None:
    """Everything that can be known before any work."""
    if not (target_of(opened.manifest.target).format.plans and wanted.format.plans):
        raise TargetError(
            f"{opened.path} ({opened.manifest.target}) cannot be rebuilt as {wanted.name}",
            why="only TensorRT artifacts carry the typed graph that a plan is built from",
            fix="Build one with: ringkas build MODEL --target tensorrt-fp16 --defer",
        )
    here, there = tensorrt_scheme(opened.manifest.target), tensorrt_scheme(wanted.name)
    if here.precision != there.precision:
        raise TargetError(
            f"{opened.path} holds a graph in {here.precision}, which cannot be rebuilt as {wanted.name}",
            fix=f"Rebuild it as {wanted.engine}-{here.precision}, or build {there.precision} from the model",
        )
    shipped = opened.parity()
    if shipped is None or not shipped.passed:
        raise ArtifactError(
            f"the graph in {opened.path} failed its parity check, or never had one",
            fix="Build it again, or choose a wider target",
        )
    library = LIBRARIES[wanted.engine]
    if find_library(wanted.engine, building=True) is None:
        raise MissingExtra(library.name, library.extra)
    check_options(wanted.engine, there, options)
    gpu = find_gpu(wanted.engine)
    if gpu is not None:
        check_gpu(there, gpu)
    profiles_for(opened.path, opened.manifest.encoding, options)


def _check_shipped_graph(opened: Artifact) -> None:
    """What TensorRT's parser gets may be anybody's: our own reading of it comes first."""
    graph = str(opened.manifest.scheme.get("graph"))
    if graph not in opened.manifest.files:
        raise ArtifactError(f"{opened.path} carries no graph {graph[:80]!r}", fix="Build or copy it again")
    check_graph(opened.path / graph)


def _copy(opened: Artifact, wanted: Target, folder: Path) -> Artifact:
    """The graph and all that belongs to it, without the plan that may be there."""
    for name in opened.manifest.files:
        if name == PLAN_FILE or name.startswith(f"{PLAN_REPOSITORY}/"):
            continue
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(opened.path / name, place)
    shutil.copyfile(opened.path / PARITY_FILE, folder / PARITY_FILE)
    scheme = {key: value for key, value in opened.manifest.scheme.items() if key != "plan"}
    manifest: Manifest = msgspec.structs.replace(
        opened.manifest,
        target=wanted.name,
        engine=wanted.engine,
        precision=wanted.precision,
        model_file=str(scheme["graph"]),
        scheme=scheme,
        tools=tool_versions(),
        execution=DEFERRED,
    )
    return seal(folder, manifest)


def _shipped_report(folder: Path, wanted: Target) -> ParityReport:
    """The verdict that came with the graph, which stays the newest where nothing could be executed."""
    shipped = msgspec.json.decode((folder / PARITY_FILE).read_bytes(), type=ParityReport)
    report = msgspec.structs.replace(shipped, target=wanted.name)
    write_json(folder / PARITY_FILE, report)
    return report
