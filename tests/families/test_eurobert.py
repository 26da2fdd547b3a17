"""`eurobert`: EuroBERT-210m's kind in little, with random weights and code of its own beside them.

A bidirectional Llama: RMSNorm before each half, rotary positions, grouped heads, a gated feed-forward.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringkas import build_all, open_checkpoint

TEXTS = ["a short one", "one of more words than the others have, so that they are padded", "짧다", "x"]
# What its published config.json says beside the sizes.
PUBLISHED = {
    "auto_map": {"AutoConfig": "configuration_eurobert.EuroBertConfig",
                 "AutoModel": "modeling_eurobert.EuroBertModel"},
    "attention_bias": False, "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>",
    "mask_token": "<mask>", "clf_pooling": "late", "hidden_dropout": 0.0, "pretraining_tp": 1,
    "rope_scaling": None, "rope_theta": 250_000, "is_decoder": False, "mlp_bias": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(
    shapes: Any, tiny_unigram: Any, make_checkpoint: Callable[..., Path], tmp_path_factory: Any
) -> Path:
    shape = shapes["xlm-roberta"](
        tiny_unigram, model_type="eurobert", architectures=["EuroBertForMaskedLM"], num_hidden_layers=3,
        hidden_size=64, num_attention_heads=4, num_key_value_heads=2, intermediate_size=96,
        max_position_embeddings=512, hidden_act="silu", rms_norm_eps=1e-5, **PUBLISHED,
    )  # fmt: skip
    config = {
        key: value for key, value in shape.config.items() if key not in ("layer_norm_eps", "type_vocab_size")
    }
    folder = tmp_path_factory.mktemp("eurobert") / "model"
    return make_checkpoint(folder, type(shape)(config, tiny_unigram, max_length=64))


def test_the_reference_is_sentence_transformers_own_and_alone_as_in_company(
    checkpoint: Path, check_reference: Callable[..., None]
) -> None:
    check_reference(checkpoint, TEXTS)


@pytest.mark.parametrize("target", ["onnx-int8", "gguf-f32"])
def test_it_goes_all_the_way(checkpoint: Path, target: str, tmp_path: Path) -> None:
    (built,) = build_all(open_checkpoint(checkpoint), [target], tmp_path)
    assert built.report.failures == ()


@pytest.mark.full
@pytest.mark.parametrize(
    "target", ["pytorch-fp32", "onnx-fp32", "onnx-fp16", "onnx-int4", "gguf-q8_0", "tensorrt-rtx-fp16"]
)
def test_it_goes_everywhere(checkpoint: Path, target: str, tmp_path: Path) -> None:
    if target.startswith("tensorrt"):
        pytest.importorskip("tensorrt_rtx_bindings", reason="no TensorRT-RTX builder: make install-all")
    (built,) = build_all(open_checkpoint(checkpoint), [target], tmp_path)
    assert built.report.failures == ()
