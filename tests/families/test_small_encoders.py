"""`camembert` and `distilbert`: small, with random weights, held to sentence-transformers itself.

What their rows say is held against transformers' models in tests/test_family_facts.py; here a whole
checkpoint of each is read, run and written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringkas import open_checkpoint
from ringkas.export.to_gguf.architecture import architecture_of
from ringkas.families import FAMILIES

TEXTS = ["a short one", "one of more words than the others have, so that they are padded", "짧다", "x"]
CLASSES = {"camembert": "CamembertModel", "distilbert": "DistilBertModel"}


@pytest.fixture(scope="module", params=CLASSES)
def checkpoint(
    request: pytest.FixtureRequest, shapes: Any, tiny_unigram: Any, make_checkpoint: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:  # fmt: skip
    family = FAMILIES[request.param]
    sizes = {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96,
        "hidden_act": "gelu",
    }  # fmt: skip
    own = {family.config_names.get(name, name): value for name, value in sizes.items()}
    shape = shapes["xlm-roberta"](tiny_unigram, architectures=[CLASSES[family.name]], model_type=family.name)
    config = {key: value for key, value in shape.config.items() if key not in sizes} | own
    folder = tmp_path_factory.mktemp(family.name) / "model"
    return make_checkpoint(folder, type(shape)(config, tiny_unigram, max_length=64))


def test_the_reference_is_sentence_transformers_own_and_alone_as_in_company(
    checkpoint: Path, check_reference: Callable[..., None]
) -> None:
    check_reference(checkpoint, TEXTS)


@pytest.mark.parametrize("bits", [32, 8])
def test_its_graph_is_as_near_as_its_floor(checkpoint: Path, bits: int, tmp_path: Path) -> None:
    from ringkas import build_all

    target = {32: "onnx-fp32", 8: "onnx-int8"}[bits]
    (built,) = build_all(open_checkpoint(checkpoint), [target], tmp_path)
    assert built.report.failures == ()


def test_its_tensors_have_places_in_llama_cpps_graph(checkpoint: Path) -> None:
    opened = open_checkpoint(checkpoint)
    pytest.importorskip("gguf", reason="no gguf: make install-all")
    first = f"{opened.family.layers}.0.{opened.family.roles[0].layers[0]}.weight"
    assert architecture_of(opened).gguf_name(first) == "blk.0.attn_q.weight"
