"""The reference equals sentence-transformers; everything else is compared with the reference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ringkas import load_reference_encoder, open_checkpoint, texts
from ringkas.runtimes.reference import POOLERS

CLOSE = 1e-6
ODD = ["", " ", "word " * 20_000, "x" * 100_000, "one", "two words", "\x00", "tab\tand\nnewline"]


def sentence_transformers(path: Path) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(path), device="cpu")


def test_equals_sentence_transformers_on_the_demo() -> None:
    theirs = sentence_transformers(open_checkpoint("demo").path)
    ours = load_reference_encoder("demo")
    sample = [line for lines in texts.probe(["en", "ko", "th"]).values() for line in lines] + ODD
    np.testing.assert_allclose(ours.encode(sample), theirs.encode(sample), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "modernbert"])
def test_equals_sentence_transformers_on_every_family(
    family: str,
    shapes: Any,
    tiny_unigram: Any,
    make_checkpoint: Any,
    tmp_path: Path,
) -> None:
    path = make_checkpoint(tmp_path / "model", shapes[family](tiny_unigram))
    sample = [*texts.probe(["ko", "en"])["ko"], *ODD]
    ours = load_reference_encoder(path).encode(sample)
    np.testing.assert_allclose(ours, sentence_transformers(path).encode(sample), atol=CLOSE, rtol=0)


@pytest.fixture(scope="module")
def shallow(shapes: Any, tiny_unigram: Any) -> Any:
    """One narrow layer: pooling is what is tested."""
    return shapes["bert"](tiny_unigram, num_hidden_layers=1, hidden_size=48, intermediate_size=64)


@pytest.mark.parametrize("modes", [*([mode] for mode in POOLERS), ["cls", "mean"], ["max", "lasttoken"]])
@pytest.mark.parametrize("normalize", [True, False])
def test_every_pooling_equals_sentence_transformers(
    modes: list[str], normalize: bool, shallow: Any, make_checkpoint: Any, tmp_path: Path
) -> None:
    shape = replace(shallow, pooling={"pooling_mode": modes}, normalize=normalize)
    path = make_checkpoint(tmp_path / "model", shape)
    sample = ["short", "a text of some more words than the other", ""]
    theirs = sentence_transformers(path).encode(sample)
    ours = load_reference_encoder(path).encode(sample)
    assert ours.shape == (3, 48 * len(modes))
    np.testing.assert_allclose(ours, theirs, atol=CLOSE * max(1.0, float(np.abs(theirs).max())), rtol=0)


@pytest.mark.parametrize("mode", list(POOLERS))
def test_prompt_left_out_of_pooling_equals_sentence_transformers(
    mode: str,
    shapes: Any,
    tiny_unigram: Any,
    make_checkpoint: Any,
    tmp_path: Path,
) -> None:
    shape = replace(
        shapes["bert"](tiny_unigram, num_hidden_layers=1, hidden_size=48, intermediate_size=64),
        pooling={"pooling_mode": mode, "include_prompt": False},
        prompts={"query": "find this: "},
    )
    path = make_checkpoint(tmp_path / "model", shape)
    sample = ["short", "a text of some more words than the other"]
    ours = load_reference_encoder(path)
    theirs = sentence_transformers(path)
    np.testing.assert_allclose(
        ours.encode(sample, prompt="query"), theirs.encode(sample, prompt_name="query"), atol=CLOSE, rtol=0
    )
    np.testing.assert_allclose(ours.encode(sample), theirs.encode(sample), atol=CLOSE, rtol=0)
    if mode != "lasttoken":  # the last token is the same with and without the prompt
        included = ours.encode(["find this: " + text for text in sample])
        assert np.abs(included - ours.encode(sample, prompt="query")).max() > 1e-3


@pytest.mark.parametrize(
    "activation", ["torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity"]
)
def test_dense_layers_equal_sentence_transformers(
    activation: str,
    shapes: Any,
    tiny_unigram: Any,
    make_checkpoint: Any,
    tmp_path: Path,
) -> None:
    path = with_dense(make_checkpoint(tmp_path / "model", shapes["bert"](tiny_unigram)), activation)
    sample = ["short", "a text of some more words than the other"]
    ours = load_reference_encoder(path).encode(sample)
    assert ours.shape == (2, 32)
    np.testing.assert_allclose(ours, sentence_transformers(path).encode(sample), atol=CLOSE, rtol=0)


def test_encode_of_nothing_has_the_dimension() -> None:
    assert load_reference_encoder("demo").encode([]).shape == (0, 384)


def with_dense(path: Path, activation: str) -> Path:
    """Puts a Dense module of 384 to 32 between pooling and normalisation."""
    folder = path / "2_Dense"
    folder.mkdir()
    torch.manual_seed(7)
    save_file(
        {"linear.weight": torch.randn(32, 384) / 8, "linear.bias": torch.randn(32)},
        folder / "model.safetensors",
    )
    config = {"in_features": 384, "out_features": 32, "bias": True, "activation_function": activation}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    modules = json.loads((path / "modules.json").read_text(encoding="utf-8"))
    modules.insert(2, {"path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    modules = [module | {"idx": index, "name": str(index)} for index, module in enumerate(modules)]
    (path / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    return path
