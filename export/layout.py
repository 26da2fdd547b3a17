"""The files at an artifact's root, in the form that existing tools read: sentence-transformers of any age,
transformers, Optimum, transformers.js."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ringkas.checkpoint import WEIGHTS, Checkpoint
from ringkas.compact import write_compact
from ringkas.spec import LEGACY_POOLING_KEYS
from ringkas.tokens import TOKENIZER_FILE
from ringkas.vocabulary import KEPT_IDS_FILE, VOCABULARY_FILE

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
# Classes that only transformers 5 knows; every version knows the general one.
_GENERAL_CLASS = "PreTrainedTokenizerFast"
_NEW_CLASSES = ("TokenizersBackend",)


def write_layout(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes configuration, tokenizer and module files; the weights and the manifest come from elsewhere."""
    spec = checkpoint.spec
    shutil.copyfile(checkpoint.path / TOKENIZER_FILE, folder / TOKENIZER_FILE)
    write_compact(folder)
    tokenizer_config = _tokenizer_config(checkpoint)
    _write(folder / "config.json", dict(checkpoint.config))
    _write(folder / "tokenizer_config.json", tokenizer_config)
    _write(folder / "special_tokens_map.json", _special_tokens(tokenizer_config))
    _write(
        folder / "sentence_bert_config.json",
        {"max_seq_length": spec.max_length, "do_lower_case": spec.lower_case},
    )
    _write(
        folder / "config_sentence_transformers.json",
        {
            "prompts": spec.prompts,
            "default_prompt_name": spec.default_prompt_name,
            "similarity_fn_name": "cosine",
        },
    )
    _write_modules(checkpoint, folder)
    if checkpoint.vocabulary is not None:
        for name in (VOCABULARY_FILE, KEPT_IDS_FILE):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(checkpoint.path / name, folder / name)


def _write_modules(checkpoint: Checkpoint, folder: Path) -> None:
    spec = checkpoint.spec
    kinds = ["Transformer", "Pooling", *("Dense" for _ in checkpoint.dense)]
    kinds += ["Normalize"] if spec.normalize else []
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": "" if index == 0 else f"{index}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    _write(folder / "modules.json", modules)
    pooling: dict[str, Any] = {"word_embedding_dimension": checkpoint.config["hidden_size"]}
    pooling |= {key: mode in spec.pooling.modes for mode, key in LEGACY_POOLING_KEYS.items()}
    pooling["include_prompt"] = spec.pooling.include_prompt
    _write(folder / "1_Pooling" / "config.json", pooling)
    for index, layer in enumerate(checkpoint.dense, 2):
        own = folder / f"{index}_Dense"
        own.mkdir()
        for name in ("config.json", WEIGHTS):
            shutil.copyfile(checkpoint.path / layer.folder / name, own / name)


def _tokenizer_config(checkpoint: Checkpoint) -> dict[str, Any]:
    file = checkpoint.path / "tokenizer_config.json"
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    config["model_max_length"] = checkpoint.spec.max_length
    if config.get("tokenizer_class") in (None, *_NEW_CLASSES):
        config["tokenizer_class"] = _GENERAL_CLASS
    for machine_bound in ("name_or_path", "local_files_only", "is_local"):
        config.pop(machine_bound, None)
    return config


def _special_tokens(tokenizer_config: dict[str, Any]) -> dict[str, Any]:
    return {name: tokenizer_config[name] for name in _SPECIAL_TOKENS if tokenizer_config.get(name)}


def _write(file: Path, value: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
