"""The artifact agrees with itself: whoever opens its files without ringkas gets the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import ringkas
from ringkas.checkpoint import open_checkpoint
from ringkas.export.layout import write_layout

TEXTS = ["short", "", "a LONG text " * 200, "하나 둘", "end"]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("lower_case", [False, True])
def test_tokenizers_and_plain_onnxruntime_give_the_facade_s_vectors(
    small_checkpoint: Callable[..., Path], tmp_path: Path, side: str, lower_case: bool
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = small_checkpoint(max_length=32)
    change(folder / "tokenizer_config.json", truncation_side=side)
    change(folder / "sentence_bert_config.json", do_lower_case=lower_case)
    place = ringkas.build(folder, "onnx-fp32", tmp_path).path
    tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    encoded = tokenizer.encode_batch(TEXTS)
    feed = {
        "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
        "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
    }
    assert feed["input_ids"].shape[1] == 32
    session = onnxruntime.InferenceSession(place / "onnx/model.onnx", providers=["CPUExecutionProvider"])
    found = session.run(["sentence_embedding"], feed)[0]
    with ringkas.load(place) as encoder:
        np.testing.assert_allclose(found, encoder.encode(TEXTS), atol=1e-6)
        assert encoder.tokenizer.encode(TEXTS[2:3]) == [encoded[2].ids]


def test_padding_is_the_checkpoint_s_own(small_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    checkpoint = open_checkpoint(small_checkpoint(max_length=20))
    write_layout(checkpoint, tmp_path)
    document = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    assert document["padding"]["pad_id"] == checkpoint.spec.pad_id == 1
    assert document["padding"]["pad_token"] == "<pad>"
    assert document["truncation"]["max_length"] == 20


def change(file: Path, **values: Any) -> None:
    stated = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(stated | values), "utf-8")
