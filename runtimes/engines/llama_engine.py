"""The llama.cpp engine: a GGUF file, fed with ids.

Ids, not strings: llama.cpp's tokenizers differ from the reference's on some texts (decomposed accents,
U+0085, literal special tokens), and a text that is segmented otherwise gets another vector.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from ringkas.artifact import Artifact
from ringkas.errors import ArtifactError, MissingExtra
from ringkas.runtimes.engine import Engine, Vectors, usable_cores
from ringkas.runtimes.engines.llama_check import POOLING_NUMBERS, check_header
from ringkas.runtimes.engines.llama_header import read_header
from ringkas.tokens import TokenBatch

# Tokens of one call, by precision. Attention is computed between all tokens of a call, of whatever text, and
# then masked, so larger calls cost more than they gain, without fused attention all the more. Formats that
# round activations to 8 bits run each text in a call of its own: sums in another order, by the last digit of
# a float, round to other integers here and there, and a text's vector would depend on its neighbours (a
# cosine of 0.9994). Texts of 16 tokens or more take no longer for it, shorter ones up to 1.5 times as long.
_TOKENS_TOGETHER = {"fp32": 32, "fp16": 256}
_LEAST_CAPACITY = 256
_MOST_SEQUENCES = 256  # LLAMA_MAX_SEQ
_NO_POOLING = 0
_MIN_NORM = 1e-12
_ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR
_FLOAT32 = 0  # GGML_TYPE_F32
# llama.cpp's fused attention is up to twice as fast at 500 tokens and rounds keys and values to float16,
# which unrounded weights do not deserve: 1 minus the cosine becomes 1e-7 in place of 1e-12. The plain form
# needs memory for the square of the tokens.
_LARGEST_EXACT = 2048


class LlamaEngine(Engine):
    """Runs a GGUF encoder through llama-cpp-python's low-level interface.

    The file is memory-mapped; `threads` defaults to one a core. Safe to share between threads: calls wait
    for each other, as a llama.cpp context serves one at a time.
    """

    def __init__(self, artifact: Artifact, threads: int | None = None, device: str | None = None) -> None:
        spec = artifact.manifest.encoding
        super().__init__(spec.dimension, spec.max_length)
        path = artifact.model_path
        header = read_header(path)
        check_header(header, spec, path)
        self._llama = _import_llama()
        self._log = quiet_llama()
        self._lock = Lock()
        self._normalize = spec.normalize
        self._pooling = POOLING_NUMBERS[spec.pooling.modes]
        self._threads = threads or usable_cores()
        self._exact = artifact.manifest.precision == "fp32"
        self._together = _TOKENS_TOGETHER.get(artifact.manifest.precision, 0)
        self._vocabulary = len(header.metadata["tokenizer.ggml.tokens"])
        self._contexts: dict[int, _Context] = {}
        self._model = self._load(str(path), device)

    def _run(self, batch: TokenBatch) -> Vectors:
        rows, lengths = self._rows(batch)
        vectors = np.empty((len(rows), self.dimension), dtype=np.float32)
        with self._lock:
            for group in _groups(lengths, self._together):
                context = self._decode([rows[row] for row in group], self._pooling)
                for sequence, row in enumerate(group):
                    vectors[row] = context.sequence_vector(sequence)
        if self._normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), _MIN_NORM)
        return vectors

    def _token_vectors(self, batch: TokenBatch) -> Vectors:
        rows, lengths = self._rows(batch)
        vectors = np.zeros((*batch.input_ids.shape, self.dimension), dtype=np.float32)
        with self._lock:
            for group in _groups(lengths, self._together):
                context = self._decode([rows[row] for row in group], _NO_POOLING)
                start = 0
                for row in group:
                    vectors[row, : lengths[row]] = context.token_vectors(start, lengths[row])
                    start += lengths[row]
        return vectors

    def bindings(self) -> tuple[Any, Any]:
        """The llama_cpp module and this model's `llama_vocab`, for what llama.cpp does with strings."""
        if self._model is None:
            raise ArtifactError("the engine is closed")
        return self._llama, self._llama.llama_model_get_vocab(self._model)

    def _close(self) -> None:
        """Frees the contexts and the model."""
        with self._lock:
            for context in self._contexts.values():
                context.free()
            self._contexts.clear()
            if self._model is not None:
                self._llama.llama_model_free(self._model)
                self._model = None

    def _rows(self, batch: TokenBatch) -> tuple[list[npt.NDArray[np.int32]], list[int]]:
        if batch.input_ids.min() < 0 or batch.input_ids.max() >= self._vocabulary:
            raise ArtifactError(
                f"a token id is outside the model's 0 to {self._vocabulary - 1}",
                why="the tokenizer belongs to another model",
            )
        lengths = [int(length) for length in batch.attention_mask.sum(axis=1)]
        if min(lengths) < 1 or (np.diff(batch.attention_mask, axis=1) > 0).any():
            raise ArtifactError("a row of the batch is empty or is not padded on the right")
        ids = batch.input_ids.astype(np.int32)
        return [row[:length] for row, length in zip(ids, lengths, strict=True)], lengths

    def _load(self, path: str, device: str | None) -> Any:
        llama = self._llama
        gpu = bool(llama.llama_supports_gpu_offload())
        if device not in (None, "cpu") and not gpu:
            raise ArtifactError(
                f"this llama-cpp-python was built without support for the device {device!r}",
                fix="Build it for CUDA: CMAKE_ARGS=-DGGML_CUDA=on pip install --no-cache llama-cpp-python",
            )
        params = llama.llama_model_default_params()
        params.n_gpu_layers = -1 if gpu and device != "cpu" else 0
        params.load_mode = llama.LLAMA_LOAD_MODE_MMAP
        model = llama.llama_model_load_from_file(path.encode("utf-8"), params)
        if not model:
            raise ArtifactError(
                f"llama.cpp cannot load {path}",
                why=self._log.last(),
                fix="Build the artifact again, or upgrade llama-cpp-python",
            )
        return model

    def _decode(self, rows: Sequence[npt.NDArray[np.int32]], pooling: int) -> _Context:
        if self._model is None:
            raise ArtifactError("the engine is closed")
        count = sum(map(len, rows))
        context = self._contexts.get(pooling)
        if context is None or context.capacity < count:
            if context is not None:
                self._contexts.pop(pooling).free()
            capacity = max(_LEAST_CAPACITY, min(self.max_length, 1 << (count - 1).bit_length()))
            context = _Context(self._llama, self._model, capacity, pooling, self._threads, exact=self._exact)
            self._contexts[pooling] = context
        status = context.decode(rows)
        if status != 0:
            raise ArtifactError("llama.cpp could not run a batch", why=self._log.last() or f"status {status}")
        return context


class _Context:
    """A `llama_context` for up to `capacity` tokens a call, and the batch that is filled for it."""

    def __init__(
        self, llama: Any, model: Any, capacity: int, pooling: int, threads: int, *, exact: bool
    ) -> None:
        self.capacity = capacity
        self._llama = llama
        self._width = int(llama.llama_model_n_embd(model))
        params = llama.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = capacity
        params.n_seq_max = min(_MOST_SEQUENCES, capacity)
        params.kv_unified = True  # else n_ctx is split between the sequences
        params.n_threads = params.n_threads_batch = threads
        params.pooling_type = pooling
        params.embeddings = True
        # Of causal models, which keep keys and values: in float16, as by default, they would be rounded.
        params.type_k = params.type_v = _FLOAT32
        if exact and capacity <= _LARGEST_EXACT:
            params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._context = llama.llama_init_from_model(model, params)
        if not self._context:
            raise ArtifactError(
                f"llama.cpp cannot make a context for {capacity} tokens", why="there may be too little memory"
            )
        self._memory = llama.llama_get_memory(self._context)  # null where nothing is kept between calls
        self._tokens = np.zeros(capacity, dtype=np.int32)
        self._positions = np.zeros(capacity, dtype=np.int32)
        self._sequences = np.zeros(capacity, dtype=np.int32)
        self._counts = np.ones(capacity, dtype=np.int32)
        self._outputs = np.ones(capacity, dtype=np.int8)
        # One sequence a token: the addresses of the entries of `_sequences`.
        self._pointers = self._sequences.ctypes.data + 4 * np.arange(capacity, dtype=np.uintp)
        self._batch = self._make_batch()

    def _make_batch(self) -> Any:
        """A `llama_batch` over our own arrays, so that filling it needs no loop in Python."""
        batch = self._llama.llama_batch()
        fields: dict[str, npt.NDArray[Any]] = {
            "token": self._tokens,
            "pos": self._positions,
            "n_seq_id": self._counts,
            "seq_id": self._pointers,
            "logits": self._outputs,
        }
        kinds = dict(self._llama.llama_batch._fields_)
        for name, array in fields.items():
            setattr(batch, name, ctypes.cast(array.ctypes.data, kinds[name]))
        return batch

    def decode(self, rows: Sequence[npt.NDArray[np.int32]]) -> int:
        """Runs the texts as sequences 0, 1, ...; 0 when it went well."""
        lengths = [len(row) for row in rows]
        count = sum(lengths)
        self._batch.n_tokens = count
        np.concatenate(rows, out=self._tokens[:count])
        np.concatenate([np.arange(length, dtype=np.int32) for length in lengths], out=self._positions[:count])
        self._sequences[:count] = np.repeat(np.arange(len(rows), dtype=np.int32), lengths)
        if self._memory is None:
            return int(self._llama.llama_encode(self._context, self._batch))
        self._llama.llama_memory_clear(self._memory, False)
        return int(self._llama.llama_decode(self._context, self._batch))

    def sequence_vector(self, sequence: int) -> Vectors:
        """A copy of the pooled vector of one sequence of the last call."""
        return self._copy(self._llama.llama_get_embeddings_seq(self._context, sequence), 1).reshape(-1)

    def token_vectors(self, start: int, count: int) -> Vectors:
        """A copy of the vectors of `count` tokens of the last call, from the token `start`."""
        return self._copy(self._llama.llama_get_embeddings(self._context), start + count)[start:]

    def _copy(self, pointer: Any, rows: int) -> Vectors:
        if not pointer:
            raise ArtifactError("llama.cpp gave no vector", why="the file's pooling is not the one expected")
        values: Vectors = np.array(
            np.ctypeslib.as_array(pointer, shape=(rows, self._width)), dtype=np.float32
        )
        return values

    def free(self) -> None:
        self._llama.llama_free(self._context)


class LlamaLog:
    """Keeps llama.cpp's messages off stderr and remembers the errors among them."""

    def __init__(self, llama: Any) -> None:
        self._errors: list[str] = []
        self._callback = llama.llama_log_callback(self._receive)  # must outlive its registration
        llama.llama_log_set(self._callback, ctypes.c_void_p(0))

    def last(self) -> str:
        """The newest error, and forgets them all."""
        message = self._errors[-1] if self._errors else ""
        self._errors.clear()
        return message

    def _receive(self, level: int, text: bytes, data: Any) -> None:
        if level == _ERROR_LEVEL:
            message = text.decode("utf-8", errors="replace").strip()
            self._errors = [*self._errors[-15:], message] if message else self._errors


_logs: list[LlamaLog] = []


def quiet_llama() -> LlamaLog:
    """The one log of this process: llama.cpp has a single callback for all models."""
    if not _logs:
        _logs.append(LlamaLog(_import_llama()))
    return _logs[0]


def open_engine(artifact: Artifact, threads: int | None, device: str | None) -> Engine:
    """The engine of a GGUF artifact."""
    return LlamaEngine(artifact, threads, device)


def _import_llama() -> Any:
    try:
        import llama_cpp
    except ModuleNotFoundError:
        raise MissingExtra("llama-cpp-python", "gguf") from None
    llama_cpp.llama_backend_init()
    return llama_cpp


def _groups(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Rows, in order, in groups of at most `budget` tokens; a longer row is a group of its own."""
    group: list[int] = []
    tokens = 0
    for row, length in enumerate(lengths):
        if group and (tokens + length > budget or len(group) == _MOST_SEQUENCES):
            yield group
            group, tokens = [], 0
        group.append(row)
        tokens += length
    yield group
