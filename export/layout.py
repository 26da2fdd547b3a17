"""The files at an artifact's root, in the form that existing tools read: sentence-transformers of any age,
transformers, Optimum, transformers.js."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ringkas.checkpoint import WEIGHTS, Checkpoint
from ringkas.compact import write_compact
from ringkas.export.to_onnx.browser import CONFIG_KEY as BROWSER_KEY
from ringkas.remote_code import AUTO_MAP
from ringkas.spec import LEGACY_POOLING_KEYS, EncodingSpec
from ringkas.tokenizer_config import GENERAL_CLASS, changes_tokenizer, resolve, tokenizer_config
from ringkas.tokens import TOKENIZER_FILE
from ringkas.vocabulary import KEPT_IDS_FILE, VOCABULARY_FILE

_SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def write_layout(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes configuration, tokenizer and module files; the weights and the manifest come from elsewhere."""
    spec = checkpoint.spec
    _write_tokenizer(checkpoint, folder)
    write_compact(folder)
    tokenizer_config = _tokenizer_config(checkpoint)
    # The weights are those of the bare encoder, whatever head the checkpoint had over it; and whoever opens
    # the artifact is not to be sent for code.
    config = {**checkpoint.config, "architectures": [checkpoint.family.architectures[0]]}
    config.pop(BROWSER_KEY, None)  # of graphs that lie elsewhere
    config.pop(AUTO_MAP, None)
    _write(folder / "config.json", config)
    _write(folder / "tokenizer_config.json", tokenizer_config)
    _write(folder / "special_tokens_map.json", _special_tokens(tokenizer_config))
    _write(
        folder / "sentence_bert_config.json",
        {"max_seq_length": spec.max_length, "do_lower_case": spec.lower_case},
    )
    _write(
        folder / "config_sentence_transformers.json",
        {
            "prompts": {**spec.prompts, **verb_prompts(spec)},
            "default_prompt_name": spec.default_prompt_name,
            "similarity_fn_name": spec.similarity,
        },
    )
    _write_modules(checkpoint, folder)
    if checkpoint.vocabulary is not None:
        for name in (VOCABULARY_FILE, KEPT_IDS_FILE):
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(checkpoint.path / name, folder / name)


def verb_prompts(spec: EncodingSpec) -> dict[str, str]:
    """The prompts under the names that sentence-transformers' verbs look for.

    It adds an empty `query` and `document` where a folder has none, which come before `passage`, `corpus` and
    a family's own names: its `encode_query` and `encode_document` would put nothing before a text.
    """
    chosen = {"query": spec.query_prompt(), "document": spec.document_prompt()}
    return {verb: spec.prompts[name] for verb, name in chosen.items() if name and spec.prompts[name]}


def _write_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """`tokenizer.json` with what the checkpoint's tokenizer class makes of it, and what the facade does.

    Who opens it with the `tokenizers` package alone gets the facade's ids, of long texts and batches too.
    """
    document = json.loads((checkpoint.path / TOKENIZER_FILE).read_text(encoding="utf-8"))
    if changes_tokenizer(checkpoint.path):
        document = resolve(document, checkpoint.path)
    spec = checkpoint.spec
    document["truncation"] = {
        "direction": spec.truncation_side.capitalize(),
        "max_length": spec.max_length,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    document["padding"] = {
        "strategy": "BatchLongest",
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": spec.pad_id,
        "pad_type_id": 0,
        "pad_token": _spelling(document, spec.pad_id),
    }
    if spec.lower_case:
        own = document.get("normalizer")
        steps = [{"type": "Lowercase"}, *([own] if own else [])]
        document["normalizer"] = {"type": "Sequence", "normalizers": steps}
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    (folder / TOKENIZER_FILE).write_text(text, encoding="utf-8")


def _spelling(document: Mapping[str, Any], id: int) -> str:
    """The token of an id."""
    added = {entry["id"]: entry["content"] for entry in document.get("added_tokens", [])}
    if id in added:
        return str(added[id])
    vocabulary = document["model"]["vocab"]
    if isinstance(vocabulary, Mapping):
        return next((token for token, number in vocabulary.items() if number == id), "[PAD]")
    return str(vocabulary[id][0]) if id < len(vocabulary) else "[PAD]"


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
    pooling: dict[str, Any] = {
        "word_embedding_dimension": checkpoint.family.value(checkpoint.config, "hidden_size")
    }
    pooling |= {key: mode in spec.pooling.modes for mode, key in LEGACY_POOLING_KEYS.items()}
    pooling["include_prompt"] = spec.pooling.include_prompt
    _write(folder / "1_Pooling" / "config.json", pooling)
    for index, layer in enumerate(checkpoint.dense, 2):
        own = folder / f"{index}_Dense"
        own.mkdir()
        for name in ("config.json", WEIGHTS):
            shutil.copyfile(checkpoint.path / layer.folder / name, own / name)


def _tokenizer_config(checkpoint: Checkpoint) -> dict[str, Any]:
    config = tokenizer_config(checkpoint.path)
    config["model_max_length"] = checkpoint.spec.max_length
    config["truncation_side"] = checkpoint.spec.truncation_side
    # Any other class builds parts of the tokenizer anew: transformers 5 does for XLM-R's and BERT's.
    config["tokenizer_class"] = GENERAL_CLASS
    for name in ("name_or_path", "local_files_only", "is_local", "max_len"):  # bound to a machine, or of old
        config.pop(name, None)
    return config


def _special_tokens(tokenizer_config: dict[str, Any]) -> dict[str, Any]:
    return {name: tokenizer_config[name] for name in _SPECIAL_TOKENS if tokenizer_config.get(name)}


def _write(file: Path, value: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
