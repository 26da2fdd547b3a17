"""A configuration that claims more than the weights hold is refused before room is made for it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ringkas import load_reference_encoder, open_checkpoint
from ringkas.errors import CheckpointError
from ringkas.families import FAMILIES
from ringkas.family import Family
from ringkas.runtimes.claimed_sizes import check_claims
from ringkas.tensors import read_tensors


@dataclass(frozen=True)
class Stated:
    """What is looked at of a checkpoint."""

    path: Path
    family: Family
    config: dict[str, Any]


def saved(family: Family, folder: Path) -> Stated:
    """A tiny random model of the family."""
    from transformers import AutoConfig, AutoModel

    sizes = {
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48,
        "max_position_embeddings": 40, "vocab_size": 60, "pad_token_id": 0,
    }  # fmt: skip
    named = {family.config_names.get(name, name): value for name, value in sizes.items()}
    config = AutoConfig.for_model(family.name, **named)
    AutoModel.from_config(config).save_pretrained(folder)
    return Stated(folder, family, json.loads((folder / "config.json").read_text("utf-8")))


@pytest.mark.parametrize("name", FAMILIES)
def test_honest_configuration_of_every_family_passes(name: str, tmp_path: Path) -> None:
    stated = saved(FAMILIES[name], tmp_path)
    tensors = read_tensors(tmp_path)
    check_claims(stated, tensors)  # type: ignore[arg-type]
    for key in ("num_hidden_layers", "vocab_size", "hidden_size", "intermediate_size"):
        own = stated.family.config_names.get(key, key)
        for claim in (10**12, 0, -1, "2", True if key == "hidden_size" else 1.5):
            more = Stated(tmp_path, stated.family, stated.config | {own: claim})
            with pytest.raises(CheckpointError, match=r"do not fit its config\.json"):
                check_claims(more, tensors)  # type: ignore[arg-type]


CLAIMS = {
    "num_hidden_layers": 10**9,
    "vocab_size": 10**9,
    "hidden_size": 10**7,
    "intermediate_size": 10**10,
    "max_position_embeddings": 10**10,
    "num_attention_heads": 0,
}


@pytest.mark.parametrize("key", CLAIMS)
def test_huge_claim_is_refused_at_once(small_checkpoint: Callable[..., Path], key: str) -> None:
    folder = small_checkpoint(max_length=32)
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {key: CLAIMS[key]}), "utf-8")
    began = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        load_reference_encoder(open_checkpoint(folder))
    assert "\n" not in str(caught.value)
    assert time.monotonic() - began < 30


STRANGE = ("../outside.safetensors", "/etc/passwd", "pytorch_model.bin", "a\0.safetensors")


@pytest.mark.parametrize("name", STRANGE)
def test_index_of_shards_names_files_of_its_folder_alone(
    small_checkpoint: Callable[..., Path], name: str
) -> None:
    folder = small_checkpoint(max_length=32)
    weights = folder / "model.safetensors"
    weights.rename(folder / "model-00001-of-00001.safetensors")
    names = [tensor.name for tensor in read_tensors_of(folder / "model-00001-of-00001.safetensors")]
    index = {"metadata": {}, "weight_map": dict.fromkeys(names, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(CheckpointError, match="no safetensors file of this folder"):
        load_reference_encoder(open_checkpoint(folder))


def read_tensors_of(file: Path) -> list[Any]:
    from ringkas.tensors import _tensors

    return list(_tensors(file))
