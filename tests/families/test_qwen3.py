"""`qwen3`: Qwen3-Embedding's kind, in little, with random weights: causal and both ways, byte-level BPE."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ringkas.errors import TargetError
from ringkas.export.to_gguf.tokenizer import read_vocabulary


@pytest.mark.parametrize("name", ["qwen3", "qwen3 two ways"])
def test_the_reference_is_sentence_transformers_own(
    shape_folder: Any, check_reference: Any, name: str
) -> None:
    check_reference(shape_folder(name))


@pytest.mark.parametrize(("precision", "exact"), [("fp32", True), ("8bit", False)])
def test_unrounded_weights_get_attention_that_rounds_nothing(
    shape: Any, gguf_cosine: Any, tmp_path: Path, precision: str, exact: bool
) -> None:
    assert (1 - gguf_cosine(shape("qwen3"), tmp_path, precision) < 1e-10) is exact


@pytest.mark.full
def test_it_goes_all_the_way(shape: Any, check_targets: Callable[..., None], tmp_path: Path) -> None:
    check_targets(shape("qwen3"), ["onnx-int8", "gguf-f32"], tmp_path)


@pytest.mark.parametrize("name", ["qwen3", "qwen3 two ways"])
def test_llama_cpp_computes_the_same(shape: Any, gguf_cosine: Any, tmp_path: Path, name: str) -> None:
    assert gguf_cosine(shape(name), tmp_path) > 0.99999


@pytest.mark.full
def test_it_goes_everywhere(shape: Any, check_targets: Callable[..., None], tmp_path: Path) -> None:
    targets = ["onnx-fp32", "onnx-fp16", "onnx-int4", "gguf-q8_0", "gguf-iq4_nl-gptq", "tensorrt-rtx-fp16"]
    check_targets(shape("qwen3"), targets, tmp_path)


def test_llama_cpp_segments_strings_alike(shape: Any, tmp_path: Path) -> None:
    """The name of the pre-tokenizer, which is told from tokenizer.json's expression, is the right one."""
    pytest.importorskip("llama_cpp", reason="no llama_cpp: make install-all")
    from ringkas import texts
    from ringkas.export.to_gguf import write_gguf
    from ringkas.runtimes.engines.llama_header import read_header
    from ringkas.tokens import TextTokenizer

    checkpoint = shape("qwen3")
    file = tmp_path / write_gguf(checkpoint, "gguf-q8_0", tmp_path).model_file
    assert read_header(file).metadata["tokenizer.ggml.pre"] == "qwen2"
    tokenizer = TextTokenizer(checkpoint.path, checkpoint.spec)
    lines = [text for some in texts.probe().values() for text in some[:4]] + ["it's 2024  and\n\n more"]
    assert segmented(file, lines) == tokenizer.encode(lines)


def segmented(file: Path, lines: list[str]) -> list[list[int]]:
    """What llama.cpp itself makes of strings."""
    import llama_cpp

    from ringkas.runtimes.engines.llama_engine import quiet_llama

    quiet_llama()
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = True
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), params)
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    found = []
    for line in lines:
        text, ids = line.encode(), (llama_cpp.llama_token * 1024)()
        count = llama_cpp.llama_tokenize(vocabulary, text, len(text), ids, len(ids), True, False)
        found.append(list(ids[:count]))
    llama_cpp.llama_model_free(model)
    return found


@pytest.mark.parametrize(
    ("change", "known"),
    [
        ({"pattern": {"Regex": r"\p{L}+"}}, False),
        ({"behavior": "Removed"}, False),
        ({}, True),
    ],
)
def test_a_rule_without_a_name_is_refused(
    shape_folder: Any, tmp_path: Path, change: dict[str, Any], known: bool
) -> None:
    import shutil

    from ringkas import open_checkpoint

    folder = Path(shutil.copytree(shape_folder("qwen3"), tmp_path / "model"))
    document = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    document["pre_tokenizer"]["pretokenizers"][0] |= change
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    checkpoint = open_checkpoint(folder)
    if known:
        assert read_vocabulary(checkpoint, checkpoint.config["vocab_size"]).pre == "qwen2"
        return
    with pytest.raises(TargetError, match="splits texts by a rule of its own"):
        read_vocabulary(checkpoint, checkpoint.config["vocab_size"])
