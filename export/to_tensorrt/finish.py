"""From a typed graph to a finished artifact: the oracle's verdict, the plan, Triton's folders.

`ringkas build` comes here after the graph is written; `ringkas rebuild` with a graph that was shipped. So a
device does exactly what the builder would have done, and needs no torch for it.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from ringkas.artifact import Artifact, seal
from ringkas.checkpoint import Checkpoint
from ringkas.errors import ArtifactError, MissingExtra
from ringkas.export.finish import judge_artifact, record, write_card_and_seal
from ringkas.export.to_onnx.graph import MODEL_FILE
from ringkas.export.to_tensorrt.plan import PlanJob, PlanOptions, build_plan, check_gpu
from ringkas.export.to_tensorrt.triton import write_onnx_repository, write_plan_repository
from ringkas.families import family_of
from ringkas.progress import Progress
from ringkas.quantize.for_tensorrt.schemes import tensorrt_scheme
from ringkas.runtimes.engines.cuda_device import Cuda, Gpu
from ringkas.runtimes.engines.tensorrt_profiles import Profile, parse_profiles
from ringkas.runtimes.engines.tensorrt_record import EXECUTED, NOT_EXECUTED, PLAN_FILE
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.runtimes.parity.probe import Probe, load_probe
from ringkas.runtimes.parity.verify import compare
from ringkas.spec import EncodingSpec


def finish_build(
    checkpoint: Checkpoint, artifact: Artifact, probe: Probe, options: PlanOptions, progress: Progress
) -> ParityReport:
    """Judges the graph by its oracle and, when its parity holds, builds the plan; the newest report."""
    from ringkas.export.to_tensorrt.oracle import open_oracle

    write_onnx_repository(artifact.path, artifact.manifest)
    artifact = seal(artifact.path, artifact.manifest)
    oracle = open_oracle(checkpoint, artifact)
    with progress.stage(f"verifying {artifact.manifest.target} ({oracle.engine})"), oracle.encoder as encoder:
        judged = compare(artifact, encoder, probe)
    report = msgspec.structs.replace(judged, engine=oracle.engine)
    artifact = record(artifact, report)
    if options.defer or not report.passed:
        return report
    return add_plan(artifact, options, progress) or report


def add_plan(artifact: Artifact, options: PlanOptions, progress: Progress) -> ParityReport | None:
    """Builds the plan into the artifact's own folder, which nobody else sees yet, and seals it anew.

    Returns:
        The report of the executed plan, or None when there is no GPU to execute it on.
    """
    folder, manifest = artifact.path, artifact.manifest
    gpu = find_gpu(manifest.engine)
    if gpu is not None:
        check_gpu(tensorrt_scheme(manifest.target), gpu)
    profiles = profiles_for(folder, manifest.encoding, options)
    job = PlanJob(folder / MODEL_FILE, manifest.engine, profiles, options, folder / PLAN_FILE, gpu)
    with progress.stage(f"building the plan of {manifest.target}"):
        record = build_plan(job, progress)
    write_plan_repository(folder, manifest, profiles)
    built = msgspec.structs.replace(
        manifest,
        model_file=PLAN_FILE,
        scheme=manifest.scheme | {"plan": msgspec.to_builtins(record)},
        execution=NOT_EXECUTED,
    )
    if gpu is None:
        progress.say(f"{manifest.target}: {NOT_EXECUTED}, for want of a GPU")
        write_card_and_seal(folder, built)
        return None
    sealed = write_card_and_seal(
        folder, msgspec.structs.replace(built, execution=EXECUTED.format(gpu=gpu.name))
    )
    return judge_artifact(sealed, load_probe(folder), progress, f" on {gpu.name}")


def find_gpu(engine: str) -> Gpu | None:
    """The GPU at hand, or None where there is none, no driver, or no cuda-bindings."""
    try:
        return Cuda(engine).gpu()
    except (ArtifactError, MissingExtra):
        return None


def profiles_for(folder: Path, spec: EncodingSpec, options: PlanOptions) -> tuple[Profile, ...]:
    """The plan's profiles, within what the position table of the model in `folder` allows."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    positions = family_of(config).max_positions(config)
    return parse_profiles(options.profiles, spec.max_length, positions)
