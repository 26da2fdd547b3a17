"""`llama`: SeaLLM's kind as an embedder, in little, with random weights.

SentencePiece's BPE, RMSNorm, rotary positions, a gated feed-forward; causal, pooled at the last token.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringkas.errors import TargetError
from ringkas.export.to_gguf.architecture import architecture_of


def test_the_reference_is_sentence_transformers_own(shape_folder: Any, check_reference: Any) -> None:
    check_reference(shape_folder("llama"))


def test_it_goes_all_the_way(shape: Any, check_targets: Callable[..., None], tmp_path: Path) -> None:
    check_targets(shape("llama"), ["pytorch-fp32", "onnx-int8", "gguf-f32"], tmp_path)


@pytest.mark.full
def test_it_goes_everywhere(shape: Any, check_targets: Callable[..., None], tmp_path: Path) -> None:
    targets = ["onnx-fp32", "onnx-fp16", "onnx-int4", "gguf-q8_0", "gguf-iq4_nl-gptq", "tensorrt-rtx-fp16"]
    check_targets(shape("llama"), targets, tmp_path)


def test_rows_in_transformers_order_are_seen(shape: Any, gguf_cosine: Any, tmp_path: Path) -> None:
    checkpoint = shape("llama")
    family = checkpoint.family
    wrong = replace(family, gguf=replace(family.gguf, paired_rotary=False))
    assert gguf_cosine(replace(checkpoint, family=wrong), tmp_path) < 0.9999


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_scaled_rotary_positions_are_refused_for_gguf(shape: Any, key: str) -> None:
    checkpoint = shape("llama")
    config = checkpoint.config | {key: {"rope_type": "llama3", "factor": 8.0}}
    with pytest.raises(TargetError, match="rotary positions are of the type 'llama3'"):
        architecture_of(replace(checkpoint, config=config))
