"""`gemma3_text` in little, with random weights: harrier's kind and EmbeddingGemma's.

The first is causal and pooled at the last token; the second goes both ways, pools by mean and has two Dense.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from ringkas.errors import TargetError
from ringkas.export.to_gguf.architecture import architecture_of
from ringkas.quantize.calibrate import token_ids
from ringkas.quantize.for_onnx.layers import BlockTable8, FloatLinear
from ringkas.quantize.for_onnx.schemes import SCHEMES
from ringkas.quantize.for_onnx.twin import Quantizer

BOTH = ("gemma3_text", "gemma3_text two ways")


@pytest.mark.parametrize("name", BOTH)
def test_the_reference_is_sentence_transformers_own(
    shape_folder: Any, check_reference: Any, name: str
) -> None:
    check_reference(shape_folder(name))


@pytest.mark.full
def test_it_goes_all_the_way(shape: Any, check_targets: Callable[..., None], tmp_path: Path) -> None:
    check_targets(shape("gemma3_text two ways"), ["pytorch-fp32", "onnx-int8"], tmp_path)


@pytest.mark.parametrize(("name", "graph"), [*zip(BOTH, ("gemma3", "gemma-embedding"), strict=True)])
def test_llama_cpp_computes_the_same(
    shape: Any, gguf_cosine: Any, tmp_path: Path, name: str, graph: str
) -> None:
    assert architecture_of(shape(name)).name == graph
    assert gguf_cosine(shape(name), tmp_path) > 0.99999


def test_eight_bits_leave_its_inputs_float(shape: Any) -> None:
    checkpoint, scheme = shape("gemma3_text"), SCHEMES["onnx-int8"]
    as_integers = msgspec.structs.replace(
        scheme, activations={role.name: role.handling for role in checkpoint.family.roles}
    )
    quantizer = Quantizer(checkpoint, token_ids(checkpoint, 1000))
    texts = [torch.tensor([list(row)]) for row in quantizer.rows[:16]]

    def vectors() -> torch.Tensor:
        with torch.inference_mode():
            return torch.cat([quantizer.reference(ids, torch.ones_like(ids))[1] for ids in texts])

    exact, lost = vectors(), []
    for one in (scheme, as_integers):
        with quantizer.twin(one) as twin:
            lost.append(float((1 - torch.cosine_similarity(exact, vectors())).mean()))
            layers = {type(module) for module in twin.reference.encoder.modules()}
        assert ({FloatLinear, BlockTable8} <= layers) == (one is scheme)
    assert 2 * lost[0] < lost[1]  # random weights: 3.4 times


@pytest.mark.full
@pytest.mark.parametrize("name", BOTH)
def test_it_goes_everywhere(
    shape: Any, check_targets: Callable[..., None], tmp_path: Path, name: str
) -> None:
    targets = ["onnx-fp32", "onnx-fp16", "onnx-int4", "gguf-q8_0", "gguf-iq4_nl-gptq", "tensorrt-rtx-fp16"]
    check_targets(shape(name), targets, tmp_path)


def test_norms_without_their_one_are_seen(shape: Any, gguf_cosine: Any, tmp_path: Path) -> None:
    checkpoint = shape("gemma3_text")
    family = checkpoint.family
    wrong = replace(family, gguf=replace(family.gguf, norm_shift=0.0))
    assert gguf_cosine(replace(checkpoint, family=wrong), tmp_path) < 0.9999


def test_dense_modules_that_llama_cpp_lacks_are_refused(shape: Any) -> None:
    checkpoint = shape("gemma3_text two ways")
    assert architecture_of(checkpoint).name == "gemma-embedding"
    biased = tuple(replace(layer, bias=True) for layer in checkpoint.dense)
    with pytest.raises(TargetError, match="biases or an activation"):
        architecture_of(replace(checkpoint, dense=biased))
    with pytest.raises(TargetError, match="Dense"):
        architecture_of(replace(shape("gemma3_text"), dense=checkpoint.dense))
