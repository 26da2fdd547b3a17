"""Checkpoints of families that are served for texts of 8,192 tokens: bge-m3, granite-r2 and mmBERT in little.

bge-m3, KURE-v1 and snowflake-arctic-embed-l-v2.0 are `xlm-roberta` with 8,194 rows of positions, pooled at
the first token; granite-embedding-r2 is `modernbert` pooled there, mmBERT pooled by the mean, both with every
third layer global. Widths, depths and weights are the test's own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringkas import build_all, load, load_reference_encoder, open_checkpoint
from ringkas.runtimes.parity.judge import cosine

LIMIT = 8192
SMALL = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96, "num_hidden_layers": 4}
FIRST, MEAN = {"pooling_mode_cls_token": True}, {"pooling_mode_mean_tokens": True}
SHAPES = {
    "bge-m3": ("xlm-roberta", {"max_position_embeddings": LIMIT + 2}, FIRST),
    "granite-embedding-english-r2": ("modernbert", {"max_position_embeddings": LIMIT}, FIRST),
    "mmBERT-base": ("modernbert", {"max_position_embeddings": LIMIT, "global_rope_theta": 160_000.0}, MEAN),
}
TEXTS = ["a short one", " ".join(["words that go on"] * 300), "짧다"]  # the second is past every window


@pytest.fixture(scope="module", params=SHAPES)
def checkpoint(
    request: pytest.FixtureRequest, shapes: Any, tiny_unigram: Any, make_checkpoint: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    family, sizes, pooling = SHAPES[request.param]
    shape = shapes[family](tiny_unigram, **SMALL, **sizes)
    folder = tmp_path_factory.mktemp("long") / request.param
    return make_checkpoint(folder, type(shape)(shape.config, tiny_unigram, max_length=LIMIT, pooling=pooling))


def test_the_reference_is_sentence_transformers_own_and_alone_as_in_company(checkpoint: Path) -> None:
    from sentence_transformers import SentenceTransformer

    expected = SentenceTransformer(str(checkpoint), device="cpu").encode(TEXTS)
    with load_reference_encoder(checkpoint) as encoder:
        found = encoder.encode(TEXTS)
        alone = np.stack([encoder.encode(text) for text in TEXTS])
        assert len(encoder.tokenizer.encode(TEXTS)[1]) > 900
        assert len(encoder.tokenizer.encode(["word " * 10_000])[0]) == LIMIT
    assert cosine(expected, found).min() > 0.999999
    assert cosine(alone, found).min() > 0.99999


@pytest.mark.full
def test_a_graph_takes_texts_of_many_windows(checkpoint: Path, tmp_path: Path) -> None:
    (built,) = build_all(open_checkpoint(checkpoint), ["onnx-int8"], tmp_path)
    assert built.report.failures == ()
    with load_reference_encoder(checkpoint) as reference:
        expected = reference.encode(TEXTS)
    with load(built.artifact.path, threads=1) as encoder:
        found = encoder.encode(TEXTS)
        assert cosine(np.stack([encoder.encode(text) for text in TEXTS]), found).min() > 0.99999
    assert built.artifact.manifest.encoding.max_length == LIMIT
    assert cosine(expected, found).min() > 0.995


def test_what_its_card_says_is_known_by_its_name(checkpoint: Path) -> None:
    opened = open_checkpoint(checkpoint)
    assert opened.licence == ("apache-2.0" if "granite" in checkpoint.name else "mit")
    assert opened.languages == (("en",) if "english" in checkpoint.name else ())
    assert opened.spec.prompts == {}
