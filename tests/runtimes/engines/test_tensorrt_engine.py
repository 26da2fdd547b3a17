"""The TensorRT engine: every name it uses exists in TensorRT 11's own bindings; what surrounds execution is
run on an emulated device, whose "plan" is the typed graph in ONNX Runtime."""

from __future__ import annotations

import ast
import ctypes
import sys
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import ringkas
from ringkas import RingkasError, open_artifact
from ringkas.artifact import Artifact
from ringkas.runtimes.engines import cuda_device, tensorrt_engine, tensorrt_library
from ringkas.runtimes.engines.cuda_device import Gpu
from ringkas.runtimes.engines.onnx_oracle import OracleEngine
from ringkas.runtimes.engines.tensorrt_engine import TensorRTEngine
from ringkas.runtimes.engines.tensorrt_record import PlanRecord, check_machine, read_record
from ringkas.tokens import pad

# Objects of the engine's source, and the class of the bindings that each is.
OBJECTS = {
    "trt": None,
    "self._runtime": "Runtime",
    "self._engine": "ICudaEngine",
    "engine": "ICudaEngine",
    "self._context": "IExecutionContext",
}
# What only TensorRT-RTX has; the engine asks with getattr or hasattr first.
PROBED = {"is_stream_capturable"}


def attributes_used(source: str) -> set[tuple[str, str]]:
    """(object, attribute) for every access to one of OBJECTS."""
    return {
        (ast.unparse(node.value), node.attr)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in OBJECTS
    }


def missing(trt: Any, source: str) -> list[str]:
    return sorted(
        f"{owner}.{name}"
        for owner, name in attributes_used(source)
        if not hasattr(trt if OBJECTS[owner] is None else getattr(trt, str(OBJECTS[owner])), name)
    )


@pytest.mark.parametrize("package", ["tensorrt_lean", "tensorrt_rtx"])
def test_every_attribute_is_in_the_bindings(package: str) -> None:
    pytest.importorskip(f"{package}_libs", reason="not installed: make install-all")
    trt = pytest.importorskip(f"{package}_bindings")
    source = Path(tensorrt_engine.__file__).read_text(encoding="utf-8")
    assert len(attributes_used(source)) > 12
    assert missing(trt, source) == []
    sabotaged = source.replace("execute_async_v3", "execute_async_v2")
    assert missing(trt, sabotaged) == ["self._context.execute_async_v2"]


def test_every_cuda_call_is_in_the_bindings() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="not installed: make install-all")
    source = Path(cuda_device.__file__).read_text(encoding="utf-8")

    def unknown(text: str) -> list[str]:
        chains = {ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}
        names = [chain.split(".", 2)[2] for chain in chains if chain.startswith("self._cudart.")]
        assert len(names) > 15
        return [name for name in names if not _reachable(runtime, name)]

    assert unknown(source) == []
    assert unknown(source.replace("cudaGraphLaunch", "cudaGraphRun")) == ["cudaGraphRun"]


def _reachable(root: Any, path: str) -> bool:
    for name in path.split("."):
        if not hasattr(root, name):
            return False
        root = getattr(root, name)
    return True


# The machine and the plan

RECORD = PlanRecord(library="TensorRT", version="11.4.0", capabilities=("8.9",), gpu="NVIDIA L4")
H200 = Gpu("NVIDIA H200", "9.0")


@pytest.fixture
def planned(tensorrt_artifacts: Path) -> Artifact:
    return open_artifact(tensorrt_artifacts / "tensorrt-rtx-fp16")


def test_another_gpu_is_one_line_with_the_way_out(planned: Artifact) -> None:
    with pytest.raises(RingkasError) as caught:
        check_machine(planned, RECORD, H200, "11.4.0")
    line = str(caught.value)
    assert "is for NVIDIA L4, compute capability 8.9, and this is NVIDIA H200, compute capability 9.0" in line
    assert f"Run: ringkas rebuild {planned.path} --target tensorrt-rtx-fp16 --out DIR" in line
    assert "\n" not in line


def test_another_version_is_one_line_with_the_way_out(planned: Artifact) -> None:
    with pytest.raises(RingkasError, match=r"built by .* 11.4.0, and this is 11.5.0.*ringkas rebuild"):
        check_machine(planned, RECORD, Gpu("NVIDIA L4", "8.9"), "11.5.0")


@pytest.mark.parametrize(
    ("changes", "gpu", "version"),
    [
        ({}, Gpu("NVIDIA L4", "8.9"), "11.4.0"),
        ({"portable": True}, H200, "11.4.0"),
        ({"version_compatible": True}, Gpu("NVIDIA L4", "8.9"), "11.5.0"),
        ({"capabilities": ()}, H200, "11.4.0"),
        ({"capabilities": ("8.6", "9.0")}, H200, "11.4.0"),
    ],
)
def test_what_fits_is_let_through(planned: Artifact, changes: dict[str, Any], gpu: Gpu, version: str) -> None:
    check_machine(planned, msgspec.structs.replace(RECORD, **changes), gpu, version)


def test_a_portable_plan_is_not_for_older_gpus(planned: Artifact) -> None:
    record = msgspec.structs.replace(RECORD, portable=True)
    with pytest.raises(RingkasError, match=r"8\.9 and later"):
        check_machine(planned, record, Gpu("NVIDIA A10", "8.6"), "11.4.0")


# An emulated device: memory is the host's, a stream runs at once, a captured graph repeats what it saw.


class EmulatedCuda:
    """Same methods as `cuda_device.Cuda`; freed memory is remembered, and touching it fails."""

    def __init__(self, extra: str = "") -> None:
        self.memory: dict[int, Any] = {}
        self.retired: list[Any] = []
        self.recording: list[Callable[[], None]] | None = None
        self.launched = 0

    def gpu(self) -> Gpu:
        return Gpu("emulated", "8.9")

    def allocate(self, size: int) -> int:
        block = ctypes.create_string_buffer(size)
        address = ctypes.addressof(block)
        self.memory[address] = block
        return address

    def view(self, address: int, size: int) -> Any:
        assert address in self.memory, "memory that was freed"
        assert len(self.memory[address]) >= size, "past the end of a buffer"
        return np.frombuffer(self.memory[address], dtype=np.uint8, count=size)

    def free(self, address: int) -> None:
        self.retired.append(self.memory.pop(address))  # kept, so that no new block gets its address

    def make_stream(self) -> int:
        return 7

    def destroy_stream(self, stream: int) -> None: ...

    def wait(self, stream: int) -> None: ...

    def copy_in(self, address: int, values: Any, stream: int) -> None:
        self.view(address, values.nbytes)[:] = values.reshape(-1).view(np.uint8)

    def copy_out(self, values: Any, address: int, stream: int) -> None:
        values.reshape(-1).view(np.uint8)[:] = self.view(address, values.nbytes)

    def capture(self, stream: int, work: Callable[[], None]) -> list[Callable[[], None]]:
        self.recording = []
        try:
            work()
            assert self.recording, "an empty graph"
            return self.recording
        finally:
            self.recording = None

    def launch(self, graph: list[Callable[[], None]], stream: int) -> None:
        self.launched += 1
        for call in graph:
            call()

    def destroy_graph(self, graph: Any) -> None: ...


class EmulatedContext:
    def __init__(self, plan: EmulatedPlan) -> None:
        self.plan, self.profile = plan, 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.changes, self.settled = 0, False

    def change(self) -> None:
        self.changes, self.settled = self.changes + 1, False

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.change()
        self.profile = profile
        self.shapes.clear()
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.change()
        self.shapes[name] = shape
        most = self.plan.most[self.profile]
        return shape[0] <= most[0] and shape[1] <= most[1]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (self.shapes["input_ids"][0], self.plan.oracle.dimension)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        shapes, addresses = dict(self.shapes), dict(self.addresses)  # a graph keeps what it was captured with
        cuda, changes = self.plan.cuda, self.changes
        assert cuda.recording is None or self.settled, "captured before it ran once"
        self.settled = True

        def call() -> None:
            assert changes == self.changes, "a graph of a context that has changed since"
            given = {
                name: cuda.view(addresses[name], 4 * int(np.prod(shape))).view(np.int32).reshape(shape)
                for name, shape in shapes.items()
            }
            from ringkas.tokens import TokenBatch

            vectors = self.plan.oracle.run(
                TokenBatch(given["input_ids"].astype(np.int64), given["attention_mask"].astype(np.int64))
            )
            cuda.view(addresses["sentence_embedding"], vectors.nbytes)[:] = vectors.reshape(-1).view(np.uint8)

        if cuda.recording is None:
            call()
        else:
            cuda.recording.append(call)
        return True


class EmulatedPlan:
    num_io_tensors, num_optimization_profiles = 3, 2
    most = ((1, 64), (4, 32))

    def __init__(self, cuda: EmulatedCuda, oracle: OracleEngine) -> None:
        self.cuda, self.oracle, self.contexts = cuda, oracle, 0

    def get_tensor_name(self, index: int) -> str:
        return ("input_ids", "attention_mask", "sentence_embedding")[index]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, int]]:
        return [(1, 1), (1, 1), self.most[index]]

    def create_execution_context(self) -> EmulatedContext:
        self.contexts += 1
        return EmulatedContext(self)


@pytest.fixture
def emulated(planned: Artifact, monkeypatch: pytest.MonkeyPatch) -> tuple[TensorRTEngine, EmulatedPlan]:
    """The engine on the emulated device, and the "plan" in it."""
    cuda = EmulatedCuda()
    oracle = OracleEngine(planned.path / "onnx" / "model.onnx", planned.manifest.encoding)
    plan = EmulatedPlan(cuda, oracle)
    record = read_record(planned.manifest.scheme)
    assert record is not None
    runtime = types.SimpleNamespace(deserialize_cuda_engine=lambda data: plan)
    trt = types.SimpleNamespace(__version__=record.version, Runtime=lambda log: runtime)
    monkeypatch.setattr(tensorrt_engine, "Cuda", lambda extra: cuda)
    monkeypatch.setattr(tensorrt_engine, "load_library", lambda engine, building: trt)
    monkeypatch.setattr(tensorrt_engine, "get_log", lambda trt: None)
    return TensorRTEngine(planned), plan


def rows(count: int, length: int, seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    lengths = [length, *random.integers(1, length + 1, count - 1)]
    return [[101, *random.integers(1000, 20000, int(size)).tolist()][:length] for size in lengths]


def test_batches_are_split_and_profiles_chosen(emulated: tuple[TensorRTEngine, EmulatedPlan]) -> None:
    engine, plan = emulated
    for count, length in ((1, 5), (9, 20), (3, 50), (4, 32), (1, 64), (2, 7)):
        batch = pad(rows(count, length, count), 0)
        # Pieces of another size may be summed in another order.
        np.testing.assert_allclose(engine.run(batch), plan.oracle.run(batch), atol=1e-6)
    assert plan.contexts == 1
    with pytest.raises(RingkasError, match=r"65 tokens fits no profile.*--profile 1x65"):
        engine.run(pad(rows(1, 65), 0))


def test_repeated_shapes_are_replayed_with_new_ids(emulated: tuple[TensorRTEngine, EmulatedPlan]) -> None:
    engine, plan = emulated
    for seed in range(5):
        batch = pad(rows(2, 16, seed), 0)
        np.testing.assert_array_equal(engine.run(batch), plan.oracle.run(batch))
    assert plan.cuda.launched == 4  # the first of them ran directly


def test_changing_shapes_run_directly(emulated: tuple[TensorRTEngine, EmulatedPlan]) -> None:
    engine, plan = emulated
    short, long = pad(rows(2, 8), 0), pad(rows(2, 24), 0)
    for batch in (long, short, long, long, short, long, short, short, short):
        np.testing.assert_array_equal(engine.run(batch), plan.oracle.run(batch))
    assert plan.cuda.launched == 3  # whatever has the shape of the one before


def test_a_failure_in_a_capture_leaves_the_engine_usable(
    emulated: tuple[TensorRTEngine, EmulatedPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, plan = emulated
    batch = pad(rows(2, 8), 0)
    engine.run(batch)
    with monkeypatch.context() as patch:
        patch.setattr(EmulatedContext, "execute_async_v3", lambda self, stream: False)
        with pytest.raises(RingkasError, match="could not run a batch"):
            engine.run(batch)
    assert plan.cuda.recording is None
    np.testing.assert_array_equal(engine.run(batch), plan.oracle.run(batch))


def test_a_graph_does_not_outlive_its_shape(
    emulated: tuple[TensorRTEngine, EmulatedPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, plan = emulated
    small, large = pad(rows(2, 8), 0), pad(rows(4, 32), 0)

    def shrink_and_grow() -> None:
        for batch in (small, small, small, large, small):
            np.testing.assert_array_equal(engine.run(batch), plan.oracle.run(batch))

    shrink_and_grow()
    # Sabotaged: the graph is kept, and replays what it was captured with.
    engine.close()
    monkeypatch.setattr(tensorrt_engine._Session, "_forget_graph", lambda self: None)
    engine._engine, engine._closed = plan, False
    with pytest.raises(AssertionError, match="context that has changed since"):
        shrink_and_grow()


def test_each_thread_has_a_context_of_its_own(emulated: tuple[TensorRTEngine, EmulatedPlan]) -> None:
    import threading

    engine, plan = emulated
    batch = pad(rows(2, 8), 0)
    gate = threading.Barrier(3)
    expected = plan.oracle.run(batch)

    def work(_: int) -> Any:
        gate.wait(timeout=30)  # three threads at once, not one three times
        return engine._session()

    with ThreadPoolExecutor(3) as pool:
        assert len({id(session) for session in pool.map(work, range(3))}) == 3
    np.testing.assert_array_equal(engine.run(batch), expected)
    engine.close()
    with pytest.raises(RingkasError, match="closed"):
        engine.run(batch)


def test_closing_frees_all_memory(emulated: tuple[TensorRTEngine, EmulatedPlan]) -> None:
    engine, plan = emulated
    engine.run(pad(rows(4, 32), 0))
    assert plan.cuda.memory
    engine.close()
    assert plan.cuda.memory == {}


def test_a_plan_that_cannot_be_read_gives_the_reason(
    planned: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TensorRT does with a plan of another build: no exception, None and a line in its log."""
    record = read_record(planned.manifest.scheme)
    assert record is not None
    runtime = types.SimpleNamespace(deserialize_cuda_engine=lambda data: None)
    trt = types.SimpleNamespace(__version__=record.version, Runtime=lambda log: runtime)
    monkeypatch.setattr(tensorrt_engine, "Cuda", EmulatedCuda)
    monkeypatch.setattr(tensorrt_engine, "load_library", lambda engine, building: trt)
    log = types.SimpleNamespace(take=lambda: "platform mismatch")
    monkeypatch.setattr(tensorrt_engine, "get_log", lambda trt: log)
    with pytest.raises(RingkasError, match=r"cannot read the plan.*platform mismatch.*ringkas rebuild"):
        ringkas.load(planned)


def test_cpu_is_not_a_device_of_a_plan(planned: Artifact) -> None:
    with pytest.raises(RingkasError, match="does not run on the device 'cpu'"):
        ringkas.load(planned, device="cpu")


def test_libraries_are_found_by_their_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt_rtx", "tensorrt_rtx_libs"):
        monkeypatch.setitem(sys.modules, name, None)
    assert tensorrt_library.find_library("tensorrt-rtx", building=True) is None
    with pytest.raises(RingkasError, match=r"TensorRT-RTX is not installed.*ringkas\[tensorrt-rtx\]"):
        tensorrt_library.load_library("tensorrt-rtx", building=True)
