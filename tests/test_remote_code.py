"""Code that comes with a checkpoint: never run, neither by the reference nor by the witness."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ringkas import open_checkpoint
from ringkas.errors import CheckpointError
from ringkas.runtimes.parity.witness import examine
from ringkas.runtimes.reference import load_reference

AUTO_MAP = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}


@pytest.fixture
def trapped(small_checkpoint: Callable[..., Path], tmp_path: Path) -> Path:
    """A BertModel whose folder has code of its own, which leaves a trace when anything imports it."""
    folder = Path(shutil.copytree(small_checkpoint(), tmp_path / "model"))
    trace = tmp_path / "trace"
    (folder / "own.py").write_text(
        f"import pathlib\npathlib.Path({str(trace)!r}).write_text('run')\n"
        "from transformers import BertConfig, BertModel\n"
        "class OwnConfig(BertConfig): pass\nclass OwnModel(BertModel): pass\n",
        "utf-8",
    )
    stated(folder, auto_map=AUTO_MAP)
    # As some checkpoints ask to be loaded.
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": 64, "model_args": {"trust_remote_code": True}}), "utf-8"
    )
    return folder


def stated(folder: Path, **changes: Any) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text("utf-8")) | changes
    kept = {key: value for key, value in config.items() if value is not None}
    file.write_text(json.dumps(kept), "utf-8")


def test_transformers_class_is_loaded_and_the_code_is_not_run(
    trapped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig, BertModel

    checkpoint = open_checkpoint(trapped)
    assert type(load_reference(checkpoint).encoder) is BertModel
    assert examine(checkpoint, ["en"]).vectors > 0
    assert not (tmp_path / "trace").exists()
    # The trap is one: with leave to, transformers does run it.
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    AutoConfig.from_pretrained(trapped, trust_remote_code=True, local_files_only=True)
    assert (tmp_path / "trace").exists()


def test_a_key_that_nothing_knows_is_refused_where_code_may_read_it(trapped: Path) -> None:
    stated(trapped, lora_adaptations=["retrieval.query"])
    with pytest.raises(CheckpointError, match=r"remote code.*never run.*lora_adaptations"):
        open_checkpoint(trapped)
    stated(trapped, auto_map=None)  # without any code it is said, as ever
    assert "lora_adaptations" in open_checkpoint(trapped).remarks[0]


@pytest.mark.parametrize("name", ["encoder.layer.0.gate.weight", "encoder.layer.7.output.dense.bias"])
def test_tensors_without_a_place_are_refused_where_code_may_use_them(trapped: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    file = trapped / "model.safetensors"
    save_file(load_file(file) | {name: torch.zeros(4)}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"remote code.*never run.*tensors"):
        load_reference(open_checkpoint(trapped))
    stated(trapped, auto_map=None)
    assert name in load_reference(open_checkpoint(trapped)).unused


def test_another_architecture_under_a_known_type_does_not_fit(trapped: Path) -> None:
    """jina-embeddings-v3's case: `xlm-roberta` is stated, and the tensors have other names."""
    from safetensors.torch import load_file, save_file

    file = trapped / "model.safetensors"
    renamed = {name.replace("attention.self.query", "mixer.Wqkv"): v for name, v in load_file(file).items()}
    save_file(renamed, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"do not fit its config\.json"):
        load_reference(open_checkpoint(trapped))


@pytest.mark.parametrize(
    ("model_type", "what"),
    [
        ("new", "calls this architecture gte.*gte-multilingual-base"),
        ("xlm-roberta-flash", "Supported model types"),
    ],
)
def test_a_type_that_no_class_stands_for_is_refused_with_the_reason(
    trapped: Path, model_type: str, what: str
) -> None:
    stated(trapped, model_type=model_type)
    with pytest.raises(CheckpointError, match=f"remote code.*model type '{model_type}'.*{what}"):
        open_checkpoint(trapped)
