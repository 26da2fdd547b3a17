"""The GPU through cuda-bindings: memory, streams and graphs, without torch.

Every call is checked; a failed one raises with CUDA's own name for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ringkas.errors import ArtifactError, MissingExtra


@dataclass(frozen=True)
class Gpu:
    """A device: its name and compute capability, such as "9.0"."""

    name: str
    capability: str


class Cuda:
    """CUDA's runtime interface, only what an engine needs. Sizes are in bytes, addresses are integers.

    Raises:
        MissingExtra: cuda-bindings is not installed.
        ArtifactError: there is no GPU, or no driver.
    """

    def __init__(self, extra: str = "tensorrt") -> None:
        try:
            from cuda.bindings import runtime
        except ModuleNotFoundError:
            raise MissingExtra("cuda-bindings", extra) from None
        self._cudart: Any = runtime
        status, count = runtime.cudaGetDeviceCount()
        if status != runtime.cudaError_t.cudaSuccess or count == 0:
            raise ArtifactError(
                "there is no GPU here that a plan could run on",
                why=status.name,
                fix="Use an ONNX or GGUF artifact here, or load this one where an NVIDIA driver and GPU are",
            )

    def gpu(self) -> Gpu:
        """The current device."""
        device = self._done(self._cudart.cudaGetDevice())
        properties = self._done(self._cudart.cudaGetDeviceProperties(device))
        name = properties.name
        name = name.decode("utf-8") if isinstance(name, bytes) else str(name)
        return Gpu(name.rstrip("\0"), f"{properties.major}.{properties.minor}")

    def allocate(self, size: int) -> int:
        return int(self._done(self._cudart.cudaMalloc(max(size, 1))))

    def free(self, address: int) -> None:
        self._done(self._cudart.cudaFree(address))

    def make_stream(self) -> Any:
        return self._done(self._cudart.cudaStreamCreateWithFlags(self._cudart.cudaStreamNonBlocking))

    def destroy_stream(self, stream: Any) -> None:
        self._done(self._cudart.cudaStreamDestroy(stream))

    def wait(self, stream: Any) -> None:
        self._done(self._cudart.cudaStreamSynchronize(stream))

    def copy_in(self, address: int, values: npt.NDArray[Any], stream: Any) -> None:
        """From a contiguous host array, which must live until the stream has been waited for."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._done(self._cudart.cudaMemcpyAsync(address, values.ctypes.data, values.nbytes, kind, stream))

    def copy_out(self, values: npt.NDArray[Any], address: int, stream: Any) -> None:
        """Into the host array, and waits for it."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._done(self._cudart.cudaMemcpyAsync(values.ctypes.data, address, values.nbytes, kind, stream))
        self.wait(stream)

    def capture(self, stream: Any, work: Callable[[], None]) -> Any:
        """What `work` puts on the stream, as a graph that can be launched again; it does not run yet.

        Also when `work` fails, the stream can be used afterwards.
        """
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._done(self._cudart.cudaStreamBeginCapture(stream, mode))
        try:
            work()
        except BaseException:
            self._cudart.cudaStreamEndCapture(stream)
            raise
        graph = self._done(self._cudart.cudaStreamEndCapture(stream))
        try:
            return self._done(self._cudart.cudaGraphInstantiate(graph, 0))
        finally:
            self._done(self._cudart.cudaGraphDestroy(graph))

    def launch(self, graph: Any, stream: Any) -> None:
        self._done(self._cudart.cudaGraphLaunch(graph, stream))

    def destroy_graph(self, graph: Any) -> None:
        self._done(self._cudart.cudaGraphExecDestroy(graph))

    def _done(self, result: tuple[Any, ...]) -> Any:
        status, *values = result
        if status != self._cudart.cudaError_t.cudaSuccess:
            raise ArtifactError(
                f"CUDA failed with {status.name}",
                fix="Check the driver and the GPU's free memory: nvidia-smi",
            )
        return values[0] if values else None


def aligned(values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Ids as a plan takes them: int32, contiguous."""
    return np.ascontiguousarray(values, dtype=np.int32)
