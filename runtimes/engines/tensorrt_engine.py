"""The TensorRT engine: a plan, run through cuda-bindings. For TensorRT 10, 11, its lean runtime, and RTX.

Each thread has an execution context, a stream and buffers of its own. A shape that comes again at once is
recorded as a CUDA graph and replayed.
"""

from __future__ import annotations

from threading import Lock, get_ident
from typing import Any

import numpy as np

from ringkas.artifact import Artifact
from ringkas.errors import ArtifactError
from ringkas.runtimes.engine import Engine, Vectors
from ringkas.runtimes.engines.cuda_device import Cuda, aligned
from ringkas.runtimes.engines.tensorrt_library import LIBRARIES, get_log, load_library
from ringkas.runtimes.engines.tensorrt_profiles import Shape, choose, split
from ringkas.runtimes.engines.tensorrt_record import check_machine, read_record, rebuild_hint
from ringkas.spec import INPUTS, SENTENCE_OUTPUT, TOKEN_OUTPUT
from ringkas.tokens import TokenBatch


class TensorRTEngine(Engine):
    """Runs the plan of an artifact.

    Raises:
        ArtifactError: there is no plan yet, no GPU, or the plan is for another one or another version.
        MissingExtra: TensorRT or cuda-bindings is not installed.
    """

    # A GPU wants far larger batches than a CPU.
    batch_tokens = 16384

    def __init__(self, artifact: Artifact, device: str | None = None) -> None:
        manifest = artifact.manifest
        spec = manifest.encoding
        super().__init__(spec.dimension, spec.max_length)
        if device not in (None, "cuda"):
            raise ArtifactError(
                f"a TensorRT plan does not run on the device {device!r}", fix="Choose cuda, or leave it out"
            )
        record = read_record(manifest.scheme)
        if record is None:
            raise ArtifactError(f"{artifact.path} holds no plan yet", fix=rebuild_hint(artifact))
        library = LIBRARIES[manifest.engine]
        self._cuda = Cuda(library.extra)
        gpu = self._cuda.gpu()
        trt = load_library(manifest.engine, building=False)
        check_machine(artifact, record, gpu, trt.__version__)
        self._log = get_log(trt)
        self._runtime = trt.Runtime(self._log)
        if record.version_compatible and hasattr(self._runtime, "engine_host_code_allowed"):
            self._runtime.engine_host_code_allowed = True  # such a plan carries its own runtime
        self._engine = self._runtime.deserialize_cuda_engine(artifact.model_path.read_bytes())
        if self._engine is None:
            raise ArtifactError(
                f"{library.name} {trt.__version__} cannot read the plan in {artifact.path}",
                why=self._log.take(),
                fix=rebuild_hint(artifact),
            )
        self._most = read_profiles(self._engine)
        self._names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        self._lock = Lock()
        self._sessions: dict[int, _Session] = {}

    def _run(self, batch: TokenBatch) -> Vectors:
        parts = [part[SENTENCE_OUTPUT] for part in self._outputs(batch)]
        return np.concatenate(parts)

    def _token_vectors(self, batch: TokenBatch) -> Vectors:
        if TOKEN_OUTPUT not in self._names:
            return super()._token_vectors(batch)
        return np.concatenate([part[TOKEN_OUTPUT] for part in self._outputs(batch)])

    def _outputs(self, batch: TokenBatch) -> list[dict[str, Vectors]]:
        count, length = batch.input_ids.shape
        session, start, outputs = self._session(), 0, []
        for size in split(self._most, Shape(count, length)):
            rows = slice(start, start + size)
            outputs.append(session.run(batch.input_ids[rows], batch.attention_mask[rows]))
            start += size
        return outputs

    def _session(self) -> _Session:
        with self._lock:
            if self._engine is None:
                raise ArtifactError("the engine is closed")
            thread = get_ident()
            if thread not in self._sessions:
                self._sessions[thread] = _Session(self._cuda, self._engine, self._most)
            return self._sessions[thread]

    def _close(self) -> None:
        """Frees contexts, buffers and the plan."""
        with self._lock:
            for session in self._sessions.values():
                session.close()
            self._sessions.clear()
            self._engine = None
            self._runtime = None


class _Session:
    """One thread's execution context. Outputs are float32 by the graph's own types.

    A CUDA graph is good for as long as its context stays as it was, so only the shape at hand has one.
    """

    def __init__(self, cuda: Cuda, engine: Any, most: list[Shape]) -> None:
        self._cuda, self._engine, self._most = cuda, engine, most
        self._context = engine.create_execution_context()
        if self._context is None:
            raise ArtifactError("TensorRT cannot make an execution context", why="the GPU is out of memory")
        self._stream = cuda.make_stream()
        self._profile: int | None = None
        self._shape: Shape | None = None
        self._settled = False  # whether the context has run as it is now
        self._graph: Any = None
        self._buffers: dict[str, _Buffer] = {}
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        self._outputs = [name for name in names if name not in INPUTS]

    def run(self, input_ids: Any, attention_mask: Any) -> dict[str, Vectors]:
        given = dict(zip(INPUTS, (aligned(input_ids), aligned(attention_mask)), strict=True))
        self._take_shape(Shape(*given[INPUTS[0]].shape))
        for name, values in given.items():
            self._cuda.copy_in(self._bind(name, values.nbytes), values, self._stream)
        results = {}
        for name in self._outputs:
            results[name] = np.empty(tuple(self._context.get_tensor_shape(name)), dtype=np.float32)
            self._bind(name, results[name].nbytes)
        self._execute()
        for name, values in results.items():
            self._cuda.copy_out(values, self._buffers[name].address, self._stream)
        return results

    def _take_shape(self, shape: Shape) -> None:
        if shape == self._shape:
            return
        self._shape = None
        self._forget_graph()
        profile = choose(self._most, shape)
        if profile is None:
            raise ArtifactError(f"no profile of the plan holds a batch of {shape}")
        if profile != self._profile:
            self._context.set_optimization_profile_async(profile, self._stream)
            self._profile = profile
        sizes = (shape.batch, shape.length)
        if not all(self._context.set_input_shape(name, sizes) for name in INPUTS):
            raise ArtifactError(f"the plan refuses the shape {shape}")
        self._shape = shape

    def _bind(self, name: str, size: int) -> int:
        """The address of a tensor's buffer, which grows only when the shape changes: a graph holds it."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < size:
            if buffer is not None:
                self._cuda.wait(self._stream)
                self._cuda.free(buffer.address)
            buffer = self._buffers[name] = _Buffer(self._cuda.allocate(size), size)
        self._context.set_tensor_address(name, buffer.address)
        return buffer.address

    def _execute(self) -> None:
        """Directly the first time (TensorRT settles what a shape needs), then by a graph."""
        if self._graph is None and self._settled and self._may_capture():
            self._graph = self._cuda.capture(self._stream, self._enqueue)
        if self._graph is None:
            self._enqueue()
            self._settled = True
        else:
            self._cuda.launch(self._graph, self._stream)

    def _may_capture(self) -> bool:
        # RTX compiles kernels while it runs, and says when it cannot be captured; the others always can.
        asks = getattr(self._context, "is_stream_capturable", None)
        return asks is None or bool(asks(int(self._stream)))

    def _enqueue(self) -> None:
        if not self._context.execute_async_v3(int(self._stream)):
            raise ArtifactError("TensorRT could not run a batch", fix="Run ringkas verify on the artifact")

    def _forget_graph(self) -> None:
        if self._graph is not None:
            self._cuda.destroy_graph(self._graph)
        self._graph, self._settled = None, False

    def close(self) -> None:
        self._cuda.wait(self._stream)
        self._forget_graph()
        for buffer in self._buffers.values():
            self._cuda.free(buffer.address)
        self._buffers.clear()
        self._context = None
        self._cuda.destroy_stream(self._stream)


class _Buffer:
    def __init__(self, address: int, size: int) -> None:
        self.address, self.size = address, size


def read_profiles(engine: Any) -> list[Shape]:
    """The largest shape of each profile of a deserialised plan."""
    return [
        Shape(*engine.get_tensor_profile_shape(INPUTS[0], index)[2])
        for index in range(engine.num_optimization_profiles)
    ]


def open_engine(artifact: Artifact, threads: int | None, device: str | None) -> Engine:
    """The engine of a TensorRT artifact; `threads` is of no use to it."""
    return TensorRTEngine(artifact, device)
