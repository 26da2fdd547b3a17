"""`nomic_bert`: nomic-embed-text-v1.5's kind with random weights, in either form of its config.json.

Rotary positions, a feed-forward gated by SiLU, no biases, LayerNorm after each half. It was published with
GPT-2's names of the sizes, which transformers' class does not read: its own sizes are those of v1.5.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringkas import build_all, open_checkpoint
from ringkas.errors import CheckpointError

TEXTS = ["a short one", "one of more words than the others have, so that they are padded", "짧다", "x"]
# nomic-embed-text-v1.5's published config.json, but for the vocabulary.
PUBLISHED = {
    "activation_function": "swiglu", "architectures": ["NomicBertModel"], "attn_pdrop": 0.0,
    "auto_map": {
        "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
    },
    "bos_token_id": None, "causal": False, "dense_seq_output": True, "embd_pdrop": 0.0, "eos_token_id": None,
    "fused_bias_fc": True, "fused_dropout_add_ln": True, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-12, "max_trained_positions": 2048, "mlp_fc1_bias": False, "mlp_fc2_bias": False,
    "model_type": "nomic_bert", "n_embd": 768, "n_head": 12, "n_inner": 3072, "n_layer": 12,
    "n_positions": 8192, "pad_vocab_size_multiple": 64, "parallel_block": False,
    "parallel_block_tied_norm": False, "prenorm": False, "qkv_proj_bias": False,
    "reorder_and_upcast_attn": False, "resid_pdrop": 0.0, "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": False, "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True,
    "summary_activation": None, "summary_first_dropout": 0.0, "summary_proj_to_labels": True,
    "summary_type": "cls_index", "summary_use_proj": True, "torch_dtype": "float32",
    "transformers_version": "4.37.2", "type_vocab_size": 2, "use_cache": True, "use_flash_attn": True,
    "use_rms_norm": False, "use_xentropy": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(
    shapes: Any, tiny_unigram: Any, make_checkpoint: Callable[..., Path], tmp_path_factory: Any
) -> Path:
    shape = shapes["xlm-roberta"](
        tiny_unigram, model_type="nomic_bert", architectures=["NomicBertModel"], num_hidden_layers=3,
        hidden_size=64, num_attention_heads=4, intermediate_size=96, max_position_embeddings=512,
        hidden_act="silu", type_vocab_size=2, auto_map=PUBLISHED["auto_map"],
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("nomic") / "model"
    return make_checkpoint(folder, type(shape)(shape.config, tiny_unigram, max_length=64))


def test_the_reference_is_sentence_transformers_own_and_alone_as_in_company(
    checkpoint: Path, check_reference: Callable[..., None]
) -> None:
    from safetensors import safe_open

    with safe_open(checkpoint / "model.safetensors", framework="np") as file:
        assert "encoder.layers.0.attn.Wqkv.weight" in set(file.keys())  # as it was published
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


def published(checkpoint: Path, folder: Path, **changes: Any) -> Path:
    """The same folder with the published config.json and `changes` to it: its weights are of other sizes."""
    shutil.copytree(checkpoint, folder)
    own = json.loads((checkpoint / "config.json").read_text("utf-8"))
    config = PUBLISHED | {"vocab_size": own["vocab_size"], "pad_token_id": own["pad_token_id"]} | changes
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}), "utf-8")
    return folder


def test_the_published_form_is_read_as_transformers_reads_it(checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig

    folder = published(checkpoint, tmp_path / "model")
    opened, own = open_checkpoint(folder), AutoConfig.from_pretrained(folder, trust_remote_code=False)
    assert opened.remarks == ()
    for name in opened.family.defaults:
        assert opened.family.value(opened.config, name) == getattr(own, name)
    assert own.rope_parameters["rope_theta"] == PUBLISHED["rotary_emb_base"]
    assert own.layer_norm_eps == PUBLISHED["layer_norm_epsilon"]


@pytest.mark.parametrize(
    "change",
    [
        {"rotary_scaling_factor": 2.0},  # nomic-embed-text-v1
        {"rotary_emb_base": 10_000},
        {"n_layer": 24},
        {"qkv_proj_bias": True},
        {"activation_function": "gelu"},
        {"num_experts": 8},  # nomic-embed-text-v2-moe
    ],
    ids=str,
)
def test_another_model_of_that_type_is_refused(
    checkpoint: Path, change: dict[str, Any], tmp_path: Path
) -> None:
    (key,) = change
    with pytest.raises(CheckpointError, match=key):
        open_checkpoint(published(checkpoint, tmp_path / "model", **change))
