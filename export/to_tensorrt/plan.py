"""A typed graph becomes a plan: the builder of TensorRT 10, 11 and RTX, told apart by their attributes.

Needs neither torch nor onnx, so that a device can rebuild what was shipped to it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringkas.errors import ArtifactError, TargetError
from ringkas.files import write_bytes
from ringkas.progress import Progress
from ringkas.quantize.for_tensorrt.schemes import TensorRTScheme
from ringkas.runtimes.engines.cuda_device import Gpu
from ringkas.runtimes.engines.tensorrt_library import LIBRARIES, Library, get_log, load_library
from ringkas.runtimes.engines.tensorrt_profiles import Profile
from ringkas.runtimes.engines.tensorrt_record import PlanRecord
from ringkas.spec import INPUTS

# NVIDIA's names of the generations and their compute capabilities (docs.nvidia.com, CUDA C++ guide).
GENERATIONS: Mapping[str, tuple[int, int]] = {
    "turing": (7, 5),
    "a100": (8, 0),
    "ampere": (8, 6),
    "ada": (8, 9),
    "hopper": (9, 0),
    "blackwell": (12, 0),
}


@dataclass(frozen=True)
class PlanOptions:
    """How to build a plan.

    Args:
        defer: build none; the artifact is built from its graph on the device (`ringkas rebuild`).
        profiles: such as "64x512" or "64x512@16x128"; none gives the defaults.
        gpus: GPU generations to build for, with none at hand; for TensorRT-RTX.
        timing_cache: a file that keeps what was measured of kernels, read and written.
        workspace_mb: the most scratch memory that a kernel may use, in megabytes.
        version_compatible: the plan carries a runtime that later versions can use.
        hardware_compatible: the plan runs on later GPUs too.
    """

    defer: bool = False
    profiles: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    timing_cache: Path | None = None
    workspace_mb: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False


# What a library cannot do, by engine and option, with the reason.
_REFUSED: Mapping[str, Mapping[str, str]] = {
    "tensorrt": {"gpus": "it builds on the GPU that the plan is for"},
    "tensorrt-rtx": {
        "timing_cache": "it measures no kernels",
        "version_compatible": "it has no lean runtime that a plan could carry",
        "hardware_compatible": "its plans are portable unless --gpu narrows them",
    },
}
_OPTION_NAMES = {
    "gpus": "--gpu",
    "timing_cache": "--timing-cache",
    "version_compatible": "--version-compatible",
    "hardware_compatible": "--hardware-compatible",
}


def check_options(engine: str, scheme: TensorRTScheme, options: PlanOptions) -> None:
    """Refuses what the library cannot do, before any work.

    Raises:
        TargetError: no such generation, one without the scheme's type, or an option of another library.
    """
    for option, why in _REFUSED[engine].items():
        if getattr(options, option):
            raise TargetError(
                f"{_OPTION_NAMES[option]} is of no use to {LIBRARIES[engine].name}",
                why=why,
                fix="Leave it out, or choose a target of the other library",
            )
    if options.timing_cache and not options.timing_cache.absolute().parent.is_dir():
        raise TargetError(
            f"the timing cache {options.timing_cache} cannot be written",
            why=f"there is no folder {options.timing_cache.parent}",
            fix="Make it, or name another",
        )
    for name in options.gpus:
        if name not in GENERATIONS:
            raise TargetError(
                f"there is no GPU generation {name!r}", fix="Choose from: " + ", ".join(GENERATIONS)
            )
        _check_type(scheme, f"the GPU generation {name}", GENERATIONS[name])
    if options.gpus and not options.defer:
        _aims(load_library(engine, building=True), options.gpus, LIBRARIES[engine])


def check_gpu(scheme: TensorRTScheme, gpu: Gpu) -> None:
    """Refuses a precision that the GPU at hand does not have.

    Raises:
        TargetError: it is too old.
    """
    major, _, minor = gpu.capability.partition(".")
    _check_type(scheme, gpu.name, (int(major), int(minor)))


def _check_type(scheme: TensorRTScheme, name: str, capability: tuple[int, int]) -> None:
    if capability < scheme.least_capability:
        raise TargetError(
            f"{name} has no {scheme.precision}",
            why=f"that takes compute capability {_dotted(scheme.least_capability)}, and it has "
            f"{_dotted(capability)}",
            fix="Choose another precision, such as fp16",
        )


@dataclass(frozen=True)
class PlanJob:
    """One plan to build: from which graph, by which engine's library, for which shapes, into which file.

    `gpu` is the one at hand, if there is one.
    """

    graph: Path
    engine: str
    profiles: tuple[Profile, ...]
    options: PlanOptions
    plan: Path
    gpu: Gpu | None = None


def build_plan(job: PlanJob, progress: Progress) -> PlanRecord:
    """Builds `job.plan` and returns the record of it.

    Raises:
        MissingExtra: the library is not installed.
        ArtifactError: the graph does not parse or does not build, or there is no GPU that the library needs.
        TargetError: the library lacks an option that was asked for.
    """
    started = time.perf_counter()
    library = LIBRARIES[job.engine]
    trt = load_library(job.engine, building=True)
    log = get_log(trt)
    log.take()
    try:
        builder = trt.Builder(log)
    except TypeError:  # pybind11's word for a constructor that returned nothing
        raise ArtifactError(
            f"{library.name} {trt.__version__} cannot start here",
            why=log.take() or "there is no GPU",
            fix="Build it with --defer, and on the machine with the GPU run ringkas rebuild",
        ) from None
    network = parse(trt, builder, job.graph, library)
    config = _configure(trt, builder, job, library)
    config.progress_monitor = _monitor(trt, progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ArtifactError(
            f"{library.name} {trt.__version__} cannot build {job.graph}",
            why=log.take() or "it gave no reason",
            fix="Free memory, choose another precision or smaller profiles",
        )
    write_bytes(job.plan, plan)
    if job.options.timing_cache:
        write_bytes(job.options.timing_cache, config.get_timing_cache().serialize())
    return PlanRecord(
        library=library.name,
        version=trt.__version__,
        capabilities=_capabilities(job),
        gpu=job.gpu.name if job.gpu and not library.ahead_of_time else None,
        portable=job.options.hardware_compatible,
        version_compatible=job.options.version_compatible,
        profiles=tuple(map(str, job.profiles)),
        seconds=round(time.perf_counter() - started, 2),
        **describe(network),
    )


def parse(trt: Any, builder: Any, graph: Path, library: Library) -> Any:
    """The network of an ONNX file, strongly typed.

    Raises:
        ArtifactError: an operator or a type is not one that the parser knows.
    """
    # TensorRT 10 must be told; 11 and RTX know nothing else, and may drop the name.
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, builder.logger)
    if not parser.parse_from_file(str(graph)):
        first = parser.get_error(0) if parser.num_errors else None
        why = "it gave no reason" if first is None else f"{first.node_operator() or 'model'}: {first.desc()}"
        raise ArtifactError(
            f"{library.name} {trt.__version__} cannot parse {graph}",
            why=why,
            fix=f"Upgrade it, or build the graph again: pip install --upgrade 'ringkas[{library.extra}]'",
        )
    return network


def describe(network: Any) -> dict[str, Any]:
    """Layers, how many of each type, and the element type and shape of every input and output."""
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    return {
        "layers": len(layers),
        "operators": dict(sorted(Counter(layer.type.name for layer in layers).items())),
        "inputs": {tensor.name: _tensor(tensor) for tensor in inputs},
        "outputs": {tensor.name: _tensor(tensor) for tensor in outputs},
    }


def _tensor(tensor: Any) -> str:
    return f"{tensor.dtype.name} {'x'.join(map(str, tuple(tensor.shape)))}"


def _configure(trt: Any, builder: Any, job: PlanJob, library: Library) -> Any:
    config, options = builder.create_builder_config(), job.options
    for wanted in job.profiles:
        profile = builder.create_optimization_profile()
        best, most = (wanted.best.batch, wanted.best.length), (wanted.most.batch, wanted.most.length)
        for name in INPUTS:
            profile.set_shape(name, (1, 1), best, most)
        config.add_optimization_profile(profile)
    if options.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mb * 10**6)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.timing_cache:
        _use_timing_cache(config, options.timing_cache)
    if options.gpus:
        config.num_compute_capabilities = len(options.gpus)
        for index, aim in enumerate(_aims(trt, options.gpus, library)):
            config.set_compute_capability(aim, index)
    return config


def _use_timing_cache(config: Any, file: Path) -> None:
    cache = config.create_timing_cache(file.read_bytes() if file.is_file() else b"")
    if not config.set_timing_cache(cache, False):
        raise ArtifactError(
            f"the timing cache {file} cannot be used",
            why="it was written on another GPU or by another version",
            fix="Name another file, or remove it",
        )


def _aims(trt: Any, gpus: Sequence[str], library: Library) -> list[Any]:
    """The library's own names of GPU generations."""
    found = []
    for name in gpus:
        major, minor = GENERATIONS[name]
        found.append(getattr(trt.ComputeCapability, f"SM{major}{minor}", None))
        if found[-1] is None:
            raise TargetError(
                f"{library.name} {trt.__version__} does not build for {name}",
                why=f"its list of compute capabilities has no {major}.{minor}",
                fix="Choose a tensorrt target, and build it on that GPU",
            )
    return found


def _capabilities(job: PlanJob) -> tuple[str, ...]:
    if job.options.gpus:
        return tuple(_dotted(GENERATIONS[name]) for name in job.options.gpus)
    if LIBRARIES[job.engine].ahead_of_time or job.gpu is None:
        return ()  # any that the library knows: it finishes its kernels when the plan is loaded
    return (job.gpu.capability,)


def _dotted(capability: tuple[int, int]) -> str:
    return f"{capability[0]}.{capability[1]}"


def _monitor(trt: Any, progress: Progress) -> Any:
    """Says each outermost phase of the build once, and lets an interrupt through."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            if not parent:
                progress.say(f"  {name}: {steps} steps")

        def phase_finish(self, name: str) -> None:
            pass

        def step_complete(self, name: str, step: int) -> bool:
            return True

    return Monitor()
