"""A decoder larger than the memory: the same vectors layer by layer, the same file tensor by tensor."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from families import DECODERS, TEXTS
from safetensors.torch import load_file, save_file

from ringkas import build_all, load_reference_encoder, open_checkpoint
from ringkas.artifact import open_artifact
from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError, TargetError
from ringkas.export.build import BuildOptions
from ringkas.runtimes import streamed
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.streamed import StreamedEngine, load_streamed
from ringkas.tokens import TextTokenizer


def encoder_of(checkpoint: Checkpoint) -> Encoder:
    return Encoder(
        checkpoint.spec, TextTokenizer(checkpoint.path, checkpoint.spec), StreamedEngine(checkpoint)
    )


@pytest.mark.parametrize("name", DECODERS)
def test_layer_by_layer_is_the_reference(name: str, shape: Callable[[str], Checkpoint]) -> None:
    checkpoint = shape(name)
    with load_reference_encoder(checkpoint) as whole, encoder_of(checkpoint) as parts:
        np.testing.assert_allclose(parts.encode(list(TEXTS)), whole.encode(list(TEXTS)), atol=2e-6)
        np.testing.assert_allclose(parts.encode("alone"), whole.encode("alone"), atol=2e-6)


def test_texts_that_do_not_wait_together_pass_one_after_another(
    shape: Callable[[str], Checkpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = shape("llama")
    with encoder_of(checkpoint) as parts:
        together = parts.encode(list(TEXTS))
        monkeypatch.setattr(streamed, "_STATES_BYTES", 1)
        np.testing.assert_allclose(parts.encode(list(TEXTS), batch_tokens=1), together, atol=2e-6)


def test_no_texts_give_no_vectors(shape: Callable[[str], Checkpoint]) -> None:
    with encoder_of(shape("llama")) as parts:
        assert parts.encode([]).shape == (0, parts.dimension)


def test_a_layer_of_other_weights_is_seen(shape_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(shape_folder("llama"), tmp_path / "model")
    with encoder_of(open_checkpoint(folder)) as parts:
        before = parts.encode(list(TEXTS))
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.mlp.down_proj.weight"))
    weights[name] *= 1.01
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with encoder_of(open_checkpoint(folder)) as parts:
        assert np.abs(parts.encode(list(TEXTS)) - before).max() > 1e-4


def as_16_bits(folder: Path, place: Path, dtype: torch.dtype) -> Checkpoint:
    shutil.copytree(folder, place)
    weights = {name: value.to(dtype) for name, value in load_file(place / "model.safetensors").items()}
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    return open_checkpoint(place)


@pytest.mark.parametrize(
    ("name", "target", "dtype"),
    [
        ("llama", "gguf-q8_0", torch.float32),
        ("gemma3_text two ways", "gguf-q4_0", torch.bfloat16),
        ("qwen3", "gguf-q6_k", torch.bfloat16),
        ("mistral", "gguf-q6_k", torch.float16),
    ],
)
def test_the_file_is_the_same_to_the_byte(
    name: str, target: str, dtype: torch.dtype, shape_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp")
    from ringkas.export.to_gguf import write_gguf

    checkpoint = as_16_bits(shape_folder(name), tmp_path / "model", dtype)
    found = []
    for is_streamed in (False, True):
        folder = tmp_path / str(is_streamed)
        folder.mkdir()
        found.append(folder / write_gguf(checkpoint, target, folder, streamed=is_streamed).model_file)
    assert found[0].name == found[1].name
    assert found[0].read_bytes() == found[1].read_bytes()


def test_build_within_a_limit(shape: Callable[[str], Checkpoint], tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    (built,) = build_all(shape("qwen3"), ["gguf-q8_0"], tmp_path, BuildOptions(memory=1000))
    assert built.report.failures == ()
    witness = open_artifact(built.artifact.path).manifest.witness
    assert witness is not None
    assert "larger than the memory" in " ".join(witness.notes)


@pytest.mark.parametrize(
    ("target", "error", "why"),
    [
        ("onnx-fp32", CheckpointError, "onnx-fp32 needs them at once"),
        ("gguf-iq4_nl-gptq", TargetError, "runs calibration texts"),
    ],
)
def test_what_needs_all_weights_is_refused_before_any_work(
    target: str, error: type[Exception], why: str, shape: Callable[[str], Checkpoint], tmp_path: Path
) -> None:
    pytest.importorskip("gguf")
    with pytest.raises(error, match=why):
        build_all(shape("llama"), [target], tmp_path / "out", BuildOptions(memory=1000))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", ["missing", "another shape", "adapter", "cut short"])
def test_files_that_are_not_the_encoder_are_refused(
    change: str, shape_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(shape_folder("llama"), tmp_path / "model")
    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("layers.1.mlp.down_proj.weight"))
    if change == "missing":
        del weights[name]
    elif change == "another shape":
        weights[name] = weights[name][:, :-1].contiguous()
    elif change == "adapter":
        weights["layers.1.mlp.lora_A.weight"] = torch.ones(2, 2)
    save_file(weights, file, {"format": "pt"})
    if change == "cut short":
        file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CheckpointError):
        load_streamed(open_checkpoint(folder))


def test_an_id_beyond_the_table_is_an_error(shape_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(shape_folder("llama"), tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    name = next(name for name in weights if name.endswith("embed_tokens.weight"))
    weights[name] = weights[name][:300].contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 300}), "utf-8")
    with pytest.raises(CheckpointError), encoder_of(open_checkpoint(folder)) as parts:
        parts.encode("a text of ordinary words")
