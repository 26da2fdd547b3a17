"""Servers that cannot be installed here: their rules, as their source has them, applied to an artifact.

text-embeddings-inference (backends/ort/src/lib.rs, router/src/lib.rs), infinity (utils_optimum.py,
embedder/optimum.py), Spring AI (TransformersEmbeddingModel.java). Triton's is in to_tensorrt/test_triton.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import ringkas
from ringkas.runtimes.parity.judge import cosine

TEXTS = ["a short text", "", "of other length, and with Ünïcode 🙂", "over the limit " * 300]
Serve = Callable[[Path, list[str]], Any]


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text("utf-8"))


def run(graph: Path | bytes, feed: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs by name, of the inputs that the graph has."""
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    known = {one.name for one in session.get_inputs()}
    return dict(zip(names, session.run(names, {k: v for k, v in feed.items() if k in known}), strict=True))


def padded(rows: list[list[int]], pad: int) -> dict[str, Any]:
    width = max(map(len, rows))
    ids = np.array([row + [pad] * (width - len(row)) for row in rows], dtype=np.int64)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], dtype=np.int64)
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def mean(hidden: Any, mask: Any) -> Any:
    weights = mask[:, :, None].astype(np.float32)
    return (hidden * weights).sum(axis=1) / weights.sum(axis=1)


def text_embeddings_inference(folder: Path, texts: list[str]) -> Any:
    """`model.onnx` or `onnx/model.onnx`; its own padding, by config.json's id; `sentence_embedding` first."""
    config = read(folder, "config.json")
    assert isinstance(config["hidden_size"], int)
    assert isinstance(config["num_hidden_layers"], int)
    assert isinstance(config["max_position_embeddings"], int)
    assert config["model_type"] not in ("xlm-roberta", "camembert", "roberta")  # it would offset positions
    assert not any(name.endswith("Classification") for name in config["architectures"])
    pooling = read(folder, "1_Pooling/config.json")
    for mode in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens"):
        assert isinstance(pooling[f"pooling_mode_{mode}"], bool)
    assert pooling["pooling_mode_cls_token"] or pooling["pooling_mode_mean_tokens"]
    assert read(folder, "tokenizer_config.json").get("padding_side", "right") in ("left", "right")
    limit = read(folder, "sentence_bert_config.json")["max_seq_length"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    graph = folder / "model.onnx"
    if not graph.exists():
        graph = folder / "onnx" / "model.onnx"
    rows = [tokenizer.encode(text).ids for text in texts]
    return run(graph, padded(rows, config.get("pad_token_id", 0)))["sentence_embedding"]


def infinity(folder: Path, texts: list[str]) -> Any:
    """Any `.onnx`, a quantised one first; cut where the positions end; the mean of `last_hidden_state`."""
    from transformers import AutoConfig, AutoTokenizer

    graphs = [file for file in folder.glob("**/*") if file.match("**.onnx")]
    preferred = [file for file in graphs if "quantize" in file.name] or graphs
    tokenizer = AutoTokenizer.from_pretrained(folder)
    limit = AutoConfig.from_pretrained(folder).max_position_embeddings
    feed = tokenizer(texts, max_length=limit, padding=True, truncation="longest_first", return_tensors="np")
    return mean(run(preferred[-1], feed)["last_hidden_state"], feed["attention_mask"])


def spring_ai(folder: Path, texts: list[str]) -> Any:
    """The graph as bytes, `tokenizer.json` as it is, padding included; the mean of `last_hidden_state`."""
    encoded = Tokenizer.from_file(str(folder / "tokenizer.json")).encode_batch(texts)
    feed = {
        "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
        "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
        "token_type_ids": np.array([one.type_ids for one in encoded], dtype=np.int64),
    }
    found = run((folder / "onnx" / "model.onnx").read_bytes(), feed)
    return mean(found["last_hidden_state"], feed["attention_mask"])


SERVERS: Mapping[str, Serve] = {
    "text-embeddings-inference": text_embeddings_inference,
    "infinity": infinity,
    "Spring AI": spring_ai,
}


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("target", ["onnx-fp32", "onnx-fp16"])
def test_its_rules_give_the_facade_s_vectors(name: str, target: str, demo_artifacts: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = demo_artifacts / target
    with ringkas.load(folder) as encoder:
        expected = encoder.encode(TEXTS)
    found = cosine(expected, SERVERS[name](folder, TEXTS))
    assert found[:-1].min() > 0.9999
    # infinity reads no limit but that of the positions, which for this model is twice as many tokens.
    assert (found[-1] > 0.9999) == (name != "infinity")


def test_text_embeddings_inference_takes_a_flat_folder(demo_artifacts: Path, tmp_path: Path) -> None:
    from ringkas.export.to_onnx.graph import accept_token_types

    folder = Path(shutil.copytree(demo_artifacts / "onnx-fp32", tmp_path / "flat"))
    (folder / "onnx" / "model.onnx").rename(folder / "model.onnx")
    accept_token_types(folder / "model.onnx")
    with ringkas.load(demo_artifacts / "onnx-fp32") as encoder:
        expected = encoder.encode(TEXTS)
    assert cosine(expected, text_embeddings_inference(folder, TEXTS)).min() > 0.9999


def test_a_file_that_they_read_and_that_says_otherwise_is_seen(demo_artifacts: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo_artifacts / "onnx-fp32", tmp_path / "altered"))
    stated = read(folder, "sentence_bert_config.json") | {"max_seq_length": 16}
    (folder / "sentence_bert_config.json").write_text(json.dumps(stated), "utf-8")
    with ringkas.load(demo_artifacts / "onnx-fp32") as encoder:
        expected = encoder.encode(TEXTS)
    assert cosine(expected, text_embeddings_inference(folder, TEXTS)).min() < 0.99
