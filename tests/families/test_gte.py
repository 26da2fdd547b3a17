"""`gte`: snowflake-arctic-embed-m-v2.0's kind in little, with random weights and code of its own beside them.

Rotary positions, a feed-forward gated by GELU, LayerNorm after each half, pooled at the first token. Its file
has the tensor names of the code that it was published with, which transformers' class translates.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringkas import build_all, open_checkpoint
from ringkas.errors import CheckpointError, TargetError

TEXTS = ["a short one", "one of more words than the others have, so that they are padded", "짧다", "x"]
# What its published config.json says beside the sizes.
PUBLISHED = {
    "auto_map": {"AutoConfig": "configuration_hf_alibaba_nlp_gte.GteConfig",
                 "AutoModel": "modeling_hf_alibaba_nlp_gte.GteModel"},
    "position_embedding_type": "rope", "layer_norm_type": "layer_norm", "logn_attention_clip1": False,
    "logn_attention_scale": False, "pack_qkv": True, "rope_scaling": None, "rope_theta": 20000,
    "unpad_inputs": "true", "use_memory_efficient_attention": "true",
}  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(
    shapes: Any, tiny_unigram: Any, make_checkpoint: Callable[..., Path], tmp_path_factory: Any
) -> Path:
    shape = shapes["xlm-roberta"](
        tiny_unigram, model_type="gte", architectures=["GteModel"], num_hidden_layers=3, hidden_size=64,
        num_attention_heads=4, intermediate_size=96, max_position_embeddings=512, **PUBLISHED,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("gte") / "model"
    pooling = {"pooling_mode_cls_token": True}
    return make_checkpoint(folder, type(shape)(shape.config, tiny_unigram, max_length=64, pooling=pooling))


def test_its_own_tensor_names_are_read(checkpoint: Path) -> None:
    from safetensors import safe_open

    with safe_open(checkpoint / "model.safetensors", framework="np") as file:
        assert "encoder.layer.0.attention.qkv_proj.weight" in set(file.keys())


def test_the_reference_is_sentence_transformers_own_and_alone_as_in_company(
    checkpoint: Path, check_reference: Callable[..., None]
) -> None:
    check_reference(checkpoint, TEXTS)


@pytest.mark.parametrize("target", ["onnx-int8"])
def test_it_goes_all_the_way(checkpoint: Path, target: str, tmp_path: Path) -> None:
    (built,) = build_all(open_checkpoint(checkpoint), [target], tmp_path)
    assert built.report.failures == ()
    stated = json.loads((built.artifact.path / "config.json").read_text("utf-8"))
    assert "auto_map" not in stated  # nobody who opens it is sent for code


@pytest.mark.full
@pytest.mark.parametrize(
    "target", ["pytorch-fp32", "onnx-fp32", "onnx-fp16", "onnx-int4", "tensorrt-rtx-fp16"]
)
def test_it_goes_everywhere(checkpoint: Path, target: str, tmp_path: Path) -> None:
    if target.startswith("tensorrt"):
        pytest.importorskip("tensorrt_rtx_bindings", reason="no TensorRT-RTX builder: make install-all")
    (built,) = build_all(open_checkpoint(checkpoint), [target], tmp_path)
    assert built.report.failures == ()


def test_a_gguf_is_refused_because_llama_cpp_gates_otherwise(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="gates with SiLU where gte has GELU"):
        build_all(open_checkpoint(checkpoint), ["gguf-q8_0"], tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("position_embedding_type", "absolute"),
        ("logn_attention_scale", True),
        ("layer_norm_type", "rms_norm"),
    ],
)
def test_what_transformers_class_does_not_compute_is_refused(
    checkpoint: Path, key: str, value: Any, tmp_path: Path
) -> None:
    import shutil

    folder = shutil.copytree(checkpoint, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {key: value}), "utf-8")
    with pytest.raises(CheckpointError, match=f"sets {key} to {value!r}.*GteModel"):
        open_checkpoint(folder)
