"""`mistral`: e5-mistral's kind, in little, with random weights: Llama's shape and a window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ringkas.errors import TargetError
from ringkas.export.to_gguf.architecture import architecture_of


def test_the_reference_is_sentence_transformers_own(shape_folder: Any, check_reference: Any) -> None:
    check_reference(shape_folder("mistral"))


def test_llama_cpp_computes_the_same(shape: Any, gguf_cosine: Any, tmp_path: Path) -> None:
    assert gguf_cosine(shape("mistral"), tmp_path) > 0.99999


@pytest.mark.full
def test_it_goes_everywhere(shape: Any, check_targets: Callable[..., None], tmp_path: Path) -> None:
    check_targets(shape("mistral"), ["onnx-fp32", "onnx-int8", "gguf-q8_0", "tensorrt-rtx-fp16"], tmp_path)


def test_a_text_longer_than_the_window_is_refused_for_gguf(shape: Any) -> None:
    checkpoint = shape("mistral")
    architecture_of(checkpoint)
    with pytest.raises(TargetError, match="its window is 64 tokens and a text may have 256"):
        architecture_of(replace(checkpoint, config=checkpoint.config | {"sliding_window": 64}))
