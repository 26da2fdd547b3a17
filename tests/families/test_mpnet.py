"""`mpnet`: small with random weights through every format, and all-mpnet-base-v2 itself in the long run.

Its attention adds a bias for the bucket that a key's distance falls into, past transformers' attention
interface; its positions start at row 2 whatever the configuration calls padding.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from ringkas import build_all, load, load_reference_encoder, open_checkpoint
from ringkas.errors import TargetError
from ringkas.export.to_onnx.attention import looked_up_bias
from ringkas.export.vocabulary.prune import _fixed_ids
from ringkas.runtimes.parity.judge import cosine
from ringkas.runtimes.reference import load_reference

REPOSITORY = Path(__file__).resolve().parents[2]
# What `python benchmarks/real_mpnet.py fetch` makes.
REAL = REPOSITORY / ".peers" / "all-mpnet-base-v2"
# As long as the buckets reach and longer: from 128 tokens on all distances are one.
LONG = " ".join("as many words as there are buckets to tell apart" for _ in range(60))
TEXTS = ["a short one", LONG, "짧다", "the same words again and again and again", "x"]
LIMIT = 400


@pytest.fixture(scope="module")
def checkpoint(
    shapes: Any, tiny_unigram: Any, make_checkpoint: Callable[..., Path], tmp_path_factory: Any
) -> Path:
    from safetensors.torch import load_file, save_file

    shape = shapes["xlm-roberta"](
        tiny_unigram, model_type="mpnet", architectures=["MPNetModel"], num_hidden_layers=3, hidden_size=64,
        num_attention_heads=4, intermediate_size=96,
    )  # fmt: skip
    config = {key: value for key, value in shape.config.items() if key != "type_vocab_size"}
    folder = make_checkpoint(
        tmp_path_factory.mktemp("mpnet") / "model",
        type(shape)(config, shape.tokenizer, max_length=LIMIT, normalize=False),
    )
    weights = load_file(folder / "model.safetensors")
    weights["encoder.relative_attention_bias.weight"] *= 50  # as initialised, nothing depends on it
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_the_reference_is_sentence_transformers_own_and_alone_as_in_company(
    checkpoint: Path, check_reference: Callable[..., None]
) -> None:
    check_reference(checkpoint, TEXTS)


@pytest.mark.parametrize("target", ["onnx-fp32", "onnx-fp16", "onnx-int8", "tensorrt-rtx-fp16"])
def test_it_goes_all_the_way(checkpoint: Path, target: str, tmp_path: Path) -> None:
    if target.startswith("tensorrt"):
        pytest.importorskip("tensorrt_rtx_bindings", reason="no TensorRT-RTX builder: make install-all")
    (built,) = build_all(open_checkpoint(checkpoint), [target], tmp_path)
    assert built.report.failures == ()
    if target.startswith("tensorrt"):
        return
    with load(built.artifact.path, threads=1) as encoder:
        found = encoder.encode(TEXTS)
        alone = np.stack([encoder.encode(text) for text in TEXTS])
    assert cosine(alone, found).min() > 0.99999
    with load_reference_encoder(checkpoint) as reference:
        assert cosine(reference.encode(TEXTS), found).min() > (0.99999 if "fp" in target else 0.995)
    graph = onnx.load(built.artifact.model_path, load_external_data=False).graph
    fused = [node for node in graph.node if node.op_type in ("MultiHeadAttention", "QAttention")]
    # With a bias that is added to the scores, which QAttention cannot.
    assert [(node.op_type, len(node.input)) for node in fused] == (
        [("MultiHeadAttention", 6)] * 3 if target == "onnx-int8" else []
    )


def test_a_gguf_is_refused_in_one_line_because_llama_cpp_has_no_such_graph(
    checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=r"llama\.cpp has no graph for MPNet") as caught:
        build_all(open_checkpoint(checkpoint), ["gguf-q8_0"], tmp_path)
    assert "\n" not in str(caught.value)
    gguf = pytest.importorskip("gguf", reason="no gguf: make install-all")
    assert [name for name in gguf.MODEL_ARCH_NAMES.values() if "mpnet" in name] == []


def hidden(reference: Any, length: int) -> torch.Tensor:
    ids = torch.arange(length)[None] % 50 + 5
    with torch.no_grad():
        found: torch.Tensor = reference(ids, torch.ones_like(ids))[0]
    return found


def test_buckets_that_are_looked_up_are_transformers_own(checkpoint: Path) -> None:
    opened = open_checkpoint(checkpoint)
    reference = load_reference(opened)
    expected = hidden(reference, LIMIT)
    with looked_up_bias(reference, opened.family):
        found = hidden(reference, LIMIT)
        reference.encoder.encoder.buckets = reference.encoder.encoder.buckets.roll(1)  # type: ignore[union-attr]
        shifted = hidden(reference, LIMIT)
    assert torch.equal(found, expected)
    assert not torch.allclose(shifted, expected, atol=1e-4)
    assert torch.equal(hidden(reference, LIMIT), expected)


@pytest.mark.parametrize("padding", [0, 1, None])
def test_positions_start_at_row_two_whatever_the_padding_is_called(
    checkpoint: Path, padding: int | None, tmp_path: Path
) -> None:
    import shutil

    folder = shutil.copytree(checkpoint, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"pad_token_id": padding}), "utf-8")
    opened = open_checkpoint(folder)
    assert opened.family.max_positions(opened.config) == 512
    assert _fixed_ids(opened) == {0, 1}
    reference = load_reference(opened)
    assert torch.isfinite(hidden(reference, 512)).all()
    with pytest.raises(IndexError):
        hidden(reference, 513)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_in_16_bits_it_is_padded_and_still_alone(checkpoint: Path, dtype: str, tmp_path: Path) -> None:
    (built,) = build_all(open_checkpoint(checkpoint), ["pytorch-fp32"], tmp_path)
    with load_reference_encoder(checkpoint) as reference:
        expected = reference.encode(TEXTS)
    with load(built.artifact.path, dtype=dtype) as encoder:
        assert cosine(expected, encoder.encode(TEXTS)).min() > 0.9995


@pytest.mark.full
@pytest.mark.parametrize("target", ["onnx-fp32", "onnx-int8", "onnx-int4"])
def test_the_real_one_on_1004_sentences(target: str, lines_of: Any, tmp_path: Path) -> None:
    if not REAL.is_dir():
        pytest.skip("no all-mpnet-base-v2: python benchmarks/real_mpnet.py fetch")
    least, mean = {"onnx-fp32": (0.99999,) * 2, "onnx-int8": (0.995, 0.998), "onnx-int4": (0.95, 0.965)}[
        target
    ]
    sentences = lines_of("en")
    with load_reference_encoder(REAL) as reference:
        expected = reference.encode(sentences)
    (built,) = build_all(open_checkpoint(REAL), [target], tmp_path)
    with load(built.artifact.path) as encoder:
        found = cosine(expected, encoder.encode(sentences))
    assert (found.min() >= least, found.mean() >= mean) == (True, True)
