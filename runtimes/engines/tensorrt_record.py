"""What a plan was built for, as the manifest records it, and whether this machine is one of those."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ringkas.artifact import Artifact
from ringkas.errors import ArtifactError
from ringkas.runtimes.engines.cuda_device import Gpu
from ringkas.runtimes.engines.tensorrt_library import LIBRARIES

# The manifest's `execution`: in words, what was done and what was not.
DEFERRED = "graph only, not built"
NOT_EXECUTED = "built, not executed here"
EXECUTED = "built and executed here, on {gpu}"
PLAN_FILE = "model.plan"


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """`scheme.plan` of a manifest.

    `capabilities` are the compute capabilities that the plan was built for ("9.0"), empty when the library
    chooses at load; `portable` plans run on any GPU from the first of them on; `layers` and `operators` are
    those of the builder's network, before fusion.
    """

    library: str
    version: str
    capabilities: tuple[str, ...] = ()
    gpu: str | None = None
    portable: bool = False
    version_compatible: bool = False
    profiles: tuple[str, ...] = ()
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    layers: int = 0
    operators: dict[str, int] = {}
    seconds: float = 0.0


def read_record(scheme: Mapping[str, Any]) -> PlanRecord | None:
    """The record in a manifest's scheme; None where the plan is still to be built."""
    stated = scheme.get("plan")
    if stated is None:
        return None
    try:
        return msgspec.convert(stated, PlanRecord)
    except msgspec.ValidationError as error:
        raise ArtifactError("the manifest's record of the plan cannot be read", why=str(error)) from None


def rebuild_hint(artifact: Artifact) -> str:
    """The command that makes a plan for this machine."""
    return f"Run: ringkas rebuild {artifact.path} --target {artifact.manifest.target} --out DIR"


def check_machine(artifact: Artifact, record: PlanRecord, gpu: Gpu, version: str) -> None:
    """Compares what the plan was built for with this machine.

    Raises:
        ArtifactError: another GPU, or another version of the library.
    """
    name = LIBRARIES[artifact.manifest.engine].name
    hint = rebuild_hint(artifact)
    if not _runs_on(record, gpu):
        raise ArtifactError(
            f"the plan in {artifact.path} is for {_built_for(record)}, and this is {gpu.name}, "
            f"compute capability {gpu.capability}",
            fix=hint,
        )
    if record.version != version and not record.version_compatible:
        raise ArtifactError(
            f"the plan in {artifact.path} was built by {name} {record.version}, and this is {version}",
            why="a plan is read by the version that wrote it",
            fix=hint,
        )


def _runs_on(record: PlanRecord, gpu: Gpu) -> bool:
    if not record.capabilities:
        return True
    if record.portable:
        return _number(gpu.capability) >= min(map(_number, record.capabilities))
    return gpu.capability in record.capabilities


def _built_for(record: PlanRecord) -> str:
    capabilities = " and ".join(record.capabilities) + (" and later" if record.portable else "")
    return f"{record.gpu + ', ' if record.gpu else ''}compute capability {capabilities}"


def _number(capability: str) -> tuple[int, int]:
    major, _, minor = capability.partition(".")
    return int(major), int(minor)
