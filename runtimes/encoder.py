"""The facade: texts in, vectors out, the same for every engine."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from ringkas.artifact import Artifact, open_artifact
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.errors import ArtifactError, TargetError
from ringkas.formats import format_of
from ringkas.runtimes.batching import batches
from ringkas.runtimes.engine import Engine, Vectors
from ringkas.runtimes.vectors import Array, check_precision, quantize, truncate
from ringkas.spec import EncodingSpec
from ringkas.texts import check_texts
from ringkas.tokens import TextTokenizer, TokenBatch, pad


class Encoder:
    """Tokenises once, sorts by length, fills batches by token budget, runs the engine, restores the order.

    Safe to share between threads. A context manager: leaving it frees the engine.
    """

    def __init__(self, spec: EncodingSpec, tokenizer: TextTokenizer, engine: Engine) -> None:
        self.spec = spec
        self.tokenizer = tokenizer
        self.engine = engine
        self._warned_of_prompt = False

    @property
    def dimension(self) -> int:
        """The length of one vector."""
        return self.spec.dimension

    def encode(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        dimensions: int | None = None,
        precision: str = "float32",
        ranges: Array | None = None,
        batch_tokens: int | None = None,
    ) -> Array:
        """The vectors of `texts`: shape (n, dimension), or (dimension,) for a single string.

        Texts over the limit are truncated, special tokens kept; an empty text has a vector too.

        Args:
            texts: strings; `[]` gives shape (0, dimension).
            prompt: the name of one of the checkpoint's prompts, put before each text. None takes the
                checkpoint's default, if it has one; the empty string takes none.
            dimensions: keep only the first so many (Matryoshka), normalised again.
            precision: of the vectors: float32, int8, uint8, binary or ubinary, as in sentence-transformers.
            ranges: for int8 and uint8, the lowest and the highest value of each dimension over a corpus, of
                shape (2, dimension); None reads them from `texts`. Codes of other ranges cannot be compared.
            batch_tokens: the most tokens, padding included, in one batch; None takes the engine's own.

        Raises:
            TextError: a text is not a string, or holds a lone surrogate.
            TargetError: no such prompt, dimension or precision, or a single text without ranges.
            ArtifactError: the encoder is closed, or was opened by the process that this one was forked from.
        """
        self.engine.check_usable()
        single = isinstance(texts, str)
        listed = check_texts([texts] if isinstance(texts, str) else texts)
        prefix, pooled_from = self.prompt_of(prompt)
        check_precision(precision, len(listed), ranges)
        if prefix:
            self._warn_if_doubled(listed, prefix)
            listed = [prefix + text for text in listed]
        vectors = self.encode_ids(self.tokenizer.encode(listed) if listed else [], batch_tokens, pooled_from)
        if dimensions is not None:
            vectors = truncate(vectors, dimensions, normalize=self.spec.normalize)
        output = quantize(vectors, precision, ranges)
        return output[0] if single else output

    def encode_query(
        self, texts: str | Sequence[str], *, prompt: str | None = None, **options: object
    ) -> Array:
        """As `encode`, with the prompt named `query`, or the family's retrieval prompt."""
        name = prompt if prompt is not None else (self.spec.query_prompt() or "")
        return self.encode(texts, prompt=name, **options)  # type: ignore[arg-type]

    def encode_document(
        self, texts: str | Sequence[str], *, prompt: str | None = None, **options: object
    ) -> Array:
        """As `encode`, with the prompt named `document`, `passage` or `corpus`; none if there is none."""
        name = prompt if prompt is not None else (self.spec.document_prompt() or "")
        return self.encode(texts, prompt=name, **options)  # type: ignore[arg-type]

    def prompt_of(self, name: str | None) -> tuple[str, int]:
        """What stands before each text, and how many leading tokens the pooling leaves out for it.

        Raises:
            TargetError: no such prompt.
        """
        prefix = self._prompt_text(name)
        kept = not prefix or self.spec.pooling.include_prompt
        return prefix, 0 if kept else self.tokenizer.prompt_length(prefix)

    def encode_ids(
        self, token_ids: Sequence[Sequence[int]], batch_tokens: int | None = None, pooled_from: int = 0
    ) -> Vectors:
        """The vectors of texts that are tokenised already: float32 of shape (n, dimension), in order.

        `pooled_from` leaves the first so many tokens out of the pooling.
        """
        if len(token_ids) == 1:
            return self._run(pad(token_ids, self.tokenizer.pad_id), pooled_from)
        vectors = np.empty((len(token_ids), self.dimension), dtype=np.float32)
        budget = self.engine.batch_tokens if batch_tokens is None else batch_tokens
        groups = list(batches([len(row) for row in token_ids], budget))
        found = self.encode_batches(([token_ids[row] for row in rows] for rows in groups), pooled_from)
        for positions, rows in zip(groups, found, strict=True):
            vectors[positions] = rows
        return vectors

    def encode_batches(
        self, batches: Iterable[Sequence[Sequence[int]]], pooled_from: int = 0
    ) -> Iterator[Vectors]:
        """The vectors of each batch of token ids, float32 of shape (batch, dimension), as they are ready."""
        padded = (pad(batch, self.tokenizer.pad_id) for batch in batches)
        if pooled_from:
            return (self._pool_outside(batch, pooled_from) for batch in padded)
        return self.engine.run_many(padded)

    def close(self) -> None:
        """Frees the engine."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, batch: TokenBatch, pooled_from: int) -> Vectors:
        return self._pool_outside(batch, pooled_from) if pooled_from else self.engine.run(batch)

    def _pool_outside(self, batch: TokenBatch, pooled_from: int) -> Vectors:
        from ringkas.runtimes.pooling import pool

        mask = batch.attention_mask.copy()
        mask[:, :pooled_from] = 0
        return pool(self.engine.token_vectors(batch), mask, self.spec)

    def _prompt_text(self, name: str | None) -> str:
        if name is None:
            name = self.spec.default_prompt_name or ""
        if name == "":
            return ""
        if name not in self.spec.prompts:
            listed = ", ".join(sorted(self.spec.prompts)) or "none"
            raise TargetError(f"there is no prompt named {name!r}", fix=f"This checkpoint has: {listed}")
        return self.spec.prompts[name]

    def _warn_if_doubled(self, texts: Sequence[str], prefix: str) -> None:
        if self._warned_of_prompt:
            return
        doubled = next((text for text in texts if text.startswith(prefix)), None)
        if doubled is not None:
            self._warned_of_prompt = True
            warnings.warn(
                f"the text {doubled[:60]!r} already starts with the prompt {prefix!r}, which is added again; "
                "pass the bare text, or prompt='' to add none",
                stacklevel=3,
            )


def load(  # noqa: PLR0913 (each is independent of the others)
    artifact: str | Path | Artifact,
    *,
    variant: str | None = None,
    threads: int | None = None,
    device: str | None = None,
    engine: str | None = None,
    dtype: str | None = None,
    check: bool = True,
    allow_failed: bool = False,
) -> Encoder:
    """Opens an artifact with the engine that its manifest names, or with another that runs its format.

    Args:
        artifact: its folder, or a bundle's.
        variant: the target of the one that is meant, where a bundle holds several.
        threads: how many threads one operator may use; None leaves it to the engine.
        device: `cpu` or `cuda`; None takes the best that is there.
        engine: one of those of the artifact's format (formats.py); None takes the manifest's.
        dtype: of PyTorch's weights and activations: float32, bfloat16 or float16; None takes float32. The
            16-bit ones compute no padding. Other engines read theirs from the artifact.
        check: compare every file's content with its checksum before anything opens it; files of nothing but
            numbers while the engine opens. Without, only the manifest, the list of files and their sizes are
            checked.
        allow_failed: load even if the newest parity report says that it fell short.

    Raises:
        ArtifactError: missing, altered, of a newer format, or its parity fell short.
        MissingExtra: the engine is not installed.
    """
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact, variant)
    numbers = opened.number_files if check else frozenset()
    if check:
        opened.check_files(opened.manifest.files.keys() - numbers, quickly=True)
    report = None if allow_failed else opened.parity()
    if report is not None and not report.passed:
        raise ArtifactError(
            f"{opened.path} failed its parity check",
            why="; ".join(report.failures[:1]),
            fix="Choose a wider target, or pass allow_failed=True (--allow-failed) to use it all the same",
        )
    module = import_module(engine_module(opened, engine, dtype))
    options = {} if dtype is None else {"dtype": dtype}
    spec = opened.manifest.encoding
    # A large vocabulary takes as long to open as the session, and neither needs the other.
    with ThreadPoolExecutor(2) as beside:
        checked = beside.submit(opened.check_files, numbers, quickly=True)
        tokenizer = beside.submit(TextTokenizer, opened.path, spec)
        try:
            running: Engine = module.open_engine(opened, threads, device, **options)
        except Exception:
            checked.result()  # that they were altered says more than what came of it
            raise
    try:
        checked.result()
        _require_sizes(opened, running)
        return Encoder(spec, tokenizer.result(), running)
    except Exception:
        running.close()
        raise


def _require_sizes(artifact: Artifact, engine: Engine) -> None:
    """An engine that goes by the artifact's own configuration must come to the sizes of its manifest."""
    spec = artifact.manifest.encoding
    if (engine.dimension, engine.max_length) != (spec.dimension, spec.max_length):
        raise ArtifactError(
            f"{artifact.path} contradicts its manifest",
            why=f"its model has {engine.dimension} dimensions and texts of {engine.max_length} tokens, "
            f"the manifest says {spec.dimension} and {spec.max_length}",
            fix="Build the artifact again",
        )


def engine_module(artifact: Artifact, asked: str | None, dtype: str | None) -> str:
    """The module of the engine that runs an artifact; `ArtifactError` where none, or not so, does."""
    own = artifact.manifest.engine
    known = format_of(own)
    if known is None:
        raise ArtifactError(
            f"{artifact.path} needs the engine {own!r}, which this version does not know",
            fix="Run: pip install --upgrade ringkas",
        )
    if asked is not None and asked not in known.engines:
        raise ArtifactError(
            f"{artifact.path} ({artifact.manifest.target}) cannot be run by the engine {asked!r}",
            fix="Choose from: " + ", ".join(known.engines),
        )
    if dtype is not None and not known.any_dtype:
        raise ArtifactError(
            f"{artifact.path} cannot be computed in {dtype}",
            why=f"its precision was chosen when it was built, for {asked or own}",
            fix="Leave dtype out, or load a pytorch-fp32 artifact with it",
        )
    return known.engines[asked or own]


def load_reference_encoder(
    model: str | Path | Checkpoint,
    *,
    threads: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> Encoder:
    """The PyTorch reference of a checkpoint behind the same facade; `dtype` as in `load`."""
    from ringkas.runtimes.engines.pytorch_engine import PyTorchEngine

    checkpoint = model if isinstance(model, Checkpoint) else open_checkpoint(model)
    engine = PyTorchEngine(checkpoint, threads, device, dtype)
    return Encoder(checkpoint.spec, TextTokenizer(checkpoint.path, checkpoint.spec), engine)
