"""Decoders in little, with random weights: the shapes that benchmarks/families.py measures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import families
import numpy as np
import pytest

from ringkas import build_all, load_reference_encoder, open_checkpoint
from ringkas.checkpoint import Checkpoint
from ringkas.runtimes.parity.judge import cosine

TEXTS = list(families.TEXTS)
NEEDED = {"gguf": "llama_cpp", "tensorrt": "tensorrt_rtx_bindings"}


@pytest.fixture(scope="session")
def shape_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The checkpoint of a shape by its name there, written once."""
    folder = tmp_path_factory.mktemp("shapes")
    written: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in written:
            written[name] = families.write_checkpoint(families.SHAPES[name], folder / name.replace(" ", "-"))
        return written[name]

    return make


@pytest.fixture(scope="session")
def shape(shape_folder: Callable[[str], Path]) -> Callable[[str], Checkpoint]:
    """The same, opened."""
    return lambda name: open_checkpoint(shape_folder(name))


@pytest.fixture(scope="session")
def check_reference() -> Callable[..., None]:
    """Holds the reference to sentence-transformers itself, and a text alone to the same in company."""

    def check(folder: Path, texts: Sequence[str] = TEXTS) -> None:
        from sentence_transformers import SentenceTransformer

        expected = SentenceTransformer(str(folder), device="cpu").encode(texts)
        with load_reference_encoder(folder) as encoder:
            found = encoder.encode(texts)
            alone = np.stack([encoder.encode(text) for text in texts])
        assert cosine(expected, found).min() > 0.999999
        assert cosine(alone, found).min() > 0.99999

    return check


@pytest.fixture(scope="session")
def check_targets() -> Callable[..., None]:
    """Builds targets, those whose engine is here, and asks that each is as near as its floor."""

    def check(checkpoint: Checkpoint, targets: Sequence[str], folder: Path) -> None:
        from importlib.util import find_spec

        there = [one for one in targets if find_spec(NEEDED.get(one.partition("-")[0], "json"))]
        for built in build_all(checkpoint, there, folder):
            assert built.report.failures == (), built.artifact.manifest.target

    return check


@pytest.fixture(scope="session")
def gguf_cosine() -> Callable[..., float]:
    """The least cosine of a GGUF of float32 with the reference, when llama.cpp runs it."""

    def least(checkpoint: Checkpoint, folder: Path, precision: str = "fp32") -> float:
        pytest.importorskip("llama_cpp", reason="no llama_cpp: make install-all")
        from ringkas.artifact import Artifact, Manifest, Source
        from ringkas.export.to_gguf import write_gguf
        from ringkas.runtimes.encoder import Encoder
        from ringkas.runtimes.engines.llama_engine import LlamaEngine
        from ringkas.tokens import TextTokenizer

        file = write_gguf(checkpoint, "gguf-f32", folder).model_file
        stated: dict[str, Any] = {"name": "x", "target": "gguf-f32", "engine": "llama.cpp"}
        manifest = Manifest(
            **stated, precision=precision, source=Source("x"), encoding=checkpoint.spec, model_file=file
        )
        with LlamaEngine(Artifact(folder, manifest), threads=1) as engine:
            tokenizer = TextTokenizer(checkpoint.path, checkpoint.spec)
            found = Encoder(checkpoint.spec, tokenizer, engine).encode(TEXTS)
        with load_reference_encoder(checkpoint.path) as encoder:
            return float(cosine(encoder.encode(TEXTS), found).min())

    return least
