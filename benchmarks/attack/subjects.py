"""What is attacked: artifacts of every kind and checkpoints, of the demo's first two layers cut to English.

They are made once into a folder and kept there. One more, of a hundred thousand pieces, has the compact form
of a large tokenizer.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from ringkas.artifact import MANIFEST_FILE

_LAYERS, _ROWS = 2, 6000
_SMALL_FILE = 1 << 20  # a token table of this many bytes lies beside the graph, in one subject


@dataclass(frozen=True)
class Subject:
    """Something to damage: its folder, and the job that opens it (worker.py)."""

    name: str
    folder: Path
    job: str


# The artifact's name: the target, and whether its token table lies beside the graph.
_TARGETS = {
    "pytorch": ("pytorch-fp32", False),
    "onnx": ("onnx-fp32", False),
    "onnx with external data": ("onnx-fp16", True),
    "onnx in 8 bits": ("onnx-int8", False),
    "onnx in 4 bits": ("onnx-int4", True),
    "gguf": ("gguf-q8_0", False),
    "gguf in 4 bits": ("gguf-q4_k_m", False),
    "tensorrt-rtx": ("tensorrt-rtx-fp16", False),
}
_NEEDS = {"gguf": "llama_cpp", "tensorrt": "tensorrt_rtx_bindings"}


def make_subjects(place: Path) -> list[Subject]:
    """All subjects that can be made here, from `place` where it has them."""
    shallow = _kept(place / "checkpoint", first_layers)
    pruned = _kept(place / "pruned", lambda folder: _prune(shallow, folder))
    sharded = _kept(place / "sharded", lambda folder: _shard(shallow, folder))
    found = [
        Subject("checkpoint", pruned, "checkpoint"),
        Subject("checkpoint in shards", sharded, "checkpoint"),
    ]
    for name, (target, apart) in _TARGETS.items():
        need = _NEEDS.get(target.partition("-")[0])
        if need is not None and find_spec(need) is None:
            continue
        folder = place / name.replace(" ", "-") / target
        if not (folder / MANIFEST_FILE).is_file():
            _build(pruned, target, folder.parent, apart=apart)
        found.append(Subject(name, folder, "plan" if target.startswith("tensorrt") else "load"))
        if target in ("onnx-fp32", "gguf-q8_0"):
            found.append(Subject(f"{name}, verified", folder, "verify"))
    wide = _kept(place / "wide", _wide)
    folder = place / "compact-tokenizer" / "onnx-fp32"
    if not (folder / MANIFEST_FILE).is_file():
        _build(wide, "onnx-fp32", folder.parent)
    found.append(Subject("compact tokenizer", folder, "load"))
    old = _kept(place / "first-format", lambda folder: _age(place / "onnx" / "onnx-fp32", folder))
    return [*found, Subject("first format", old, "load")]


def first_layers(folder: Path) -> None:
    """The demo's first two layers as a sentence-transformers folder, for short texts."""
    from safetensors.torch import load_file, save_file

    from ringkas.checkpoint import open_checkpoint

    source = open_checkpoint("demo").path
    keep = shutil.ignore_patterns("*.safetensors", "data_config.json", ".git*", "README.md")
    shutil.copytree(source, folder, ignore=keep)
    weights = {
        name: value
        for name, value in load_file(source / "model.safetensors").items()
        if not name.startswith("encoder.layer.") or int(name.split(".")[2]) < _LAYERS
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    _put(folder / "config.json", num_hidden_layers=_LAYERS)
    _put(folder / "sentence_bert_config.json", max_seq_length=64)


def _kept(folder: Path, make: Any) -> Path:
    """`folder`, made unless a run before has done so."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(f"{folder.name}.making")
        shutil.rmtree(partial, ignore_errors=True)
        make(partial)
        partial.rename(folder)
    return folder


def _prune(shallow: Path, folder: Path) -> None:
    from ringkas.checkpoint import open_checkpoint
    from ringkas.export.vocabulary.prune import PruneOptions, prune_checkpoint

    prune_checkpoint(open_checkpoint(shallow), PruneOptions(("en",), max_tokens=_ROWS), folder)


def _build(model: Path, target: str, out: Path, *, apart: bool = False) -> None:
    from ringkas.checkpoint import open_checkpoint
    from ringkas.export.build import BuildOptions, build_all
    from ringkas.export.to_onnx import graph

    usual = graph.MAPPED_FROM
    try:
        graph.MAPPED_FROM = _SMALL_FILE if apart else usual
        build_all(open_checkpoint(model), [target], out, BuildOptions(overwrite=True))
    finally:
        graph.MAPPED_FROM = usual


def _shard(shallow: Path, folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(shallow, folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    index = {}
    for number, half in enumerate(halves, 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: weights[name] for name in half}, folder / file, metadata={"format": "pt"})
        index |= dict.fromkeys(half, file)
    size = sum(value.nbytes for value in weights.values())
    document = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / "model.safetensors.index.json").write_text(json.dumps(document), "utf-8")


def _wide(folder: Path) -> None:
    """A random BERT of one narrow layer with a hundred thousand pieces."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel

    from ringkas.compact import FEWEST_PIECES

    letters = [chr(code) for code in range(33, 127)]
    words = [f"▁{number:x}" for number in range(FEWEST_PIECES)]
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(letter, -9.0) for letter in letters]
    pieces += [(word, -8.0 - number / 1e5) for number, word in enumerate(words)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    torch.manual_seed(20240607)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=64, pad_token_id=1,
    )  # fmt: skip
    BertModel(config).eval().save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 64, "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")


def _age(artifact: Path, folder: Path) -> None:
    """The artifact as the first format had it: without XXH3 and the manifest's own checksum."""
    shutil.copytree(artifact, folder)
    file = folder / MANIFEST_FILE
    manifest = msgspec.json.decode(file.read_bytes())
    manifest["format_version"] = 1
    del manifest["checksum"]
    for entry in manifest["files"].values():
        del entry["xxh3"]
    file.write_bytes(msgspec.json.encode(manifest))


def _put(file: Path, **values: Any) -> None:
    document = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(document | values), "utf-8")
