"""Every file of a checkpoint that speaks of token ids, rewritten for the ids that are kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ringkas.artifact import MANIFEST_FILE, PARITY_FILE
from ringkas.checkpoint import SHARDED_WEIGHTS, Checkpoint
from ringkas.compact import COMPACT_FILE
from ringkas.errors import CheckpointError
from ringkas.export.vocabulary import spm
from ringkas.export.vocabulary.kinds import added_beyond, kind_of
from ringkas.files import write_json
from ringkas.modules import MODULES_FILE, read_modules
from ringkas.remote_code import AUTO_MAP
from ringkas.runtimes.parity.probe import PROBE_FILE
from ringkas.runtimes.parity.search import SEARCH_FILE
from ringkas.tokenizer_config import TOKENIZER_CONFIG, TRANSFORMER_CONFIGS
from ringkas.tokens import TOKENIZER_FILE

# Old id to new id.
NewIds = Mapping[int, int]

# Weights in other forms would still have all rows; caches and other engines' folders are not the model.
_LEFT_OUT_SUFFIXES = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".onnx", ".onnx_data", ".h5", ".msgpack", ".ot", ".gguf", ".safetensors"}
)
_LEFT_OUT_FOLDERS = frozenset({"onnx", "openvino"})
# What an artifact says of its own weights and vocabulary: the checkpoint may be a pytorch-fp32 artifact.
_ARTIFACT_FILES = frozenset({MANIFEST_FILE, PARITY_FILE, PROBE_FILE, SEARCH_FILE, COMPACT_FILE})
_SENTENCEPIECE_FILES = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model", "sentencepiece.model")


# What belongs to a checkpoint; nothing else is copied: training data, logs, other checkpoints stay behind.
_BELONGS = frozenset(
    {
        "config.json", "generation_config.json", MODULES_FILE, "config_sentence_transformers.json",
        TOKENIZER_FILE, TOKENIZER_CONFIG, "special_tokens_map.json", "added_tokens.json", "vocab.txt",
        "vocab.json", "merges.txt", "chat_template.jinja", "README.md", *TRANSFORMER_CONFIGS,
        *_SENTENCEPIECE_FILES,
    }
)  # fmt: skip
_LEGAL = re.compile(r"(LICEN[CS]E|NOTICE|COPYING)(\.(txt|md|rst))?", re.IGNORECASE)
_OF_A_MODULE = frozenset({"config.json", "model.safetensors"})


def copy_other_files(source: Path, folder: Path) -> list[str]:
    """Copies what belongs to a checkpoint but its weights; returns a note for what was left behind."""
    modules = read_modules(source)
    parts = {path for kind, path in modules.listed if path and kind != "Transformer"}
    notes, strangers = [], set()
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        name = file.relative_to(source)
        if any(part.startswith(".") for part in name.parts) or name.name == SHARDED_WEIGHTS:
            continue
        if name.as_posix() in _ARTIFACT_FILES:
            continue
        # A Dense module's weights know no token; the encoder's own are streamed elsewhere.
        parent = name.parent.as_posix()
        of_encoder = parent in (".", modules.transformer)
        belongs = of_encoder and (name.name in _BELONGS or _LEGAL.fullmatch(name.name))
        if not belongs and not (parent in parts and name.name in _OF_A_MODULE):
            if name.parts[0] in _LEFT_OUT_FOLDERS or name.suffix in _LEFT_OUT_SUFFIXES - {".safetensors"}:
                notes.append(f"{name.as_posix()} was left out: it holds the full vocabulary")
            elif name.suffix != ".safetensors" or len(name.parts) > 1:
                strangers.add(name.parts[0])
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, folder / name)
    return notes + [f"{name} was left out: it is no part of a checkpoint" for name in sorted(strangers)]


def flatten(folder: Path, subfolder: str) -> None:
    """Moves the encoder's files out of a folder of their own, where layouts of old keep them."""
    for file in sorted((folder / subfolder).iterdir()):
        if file.suffix == ".safetensors":
            file.unlink()
        else:
            file.replace(folder / file.name)
    (folder / subfolder).rmdir()
    modules = json.loads((folder / MODULES_FILE).read_text(encoding="utf-8"))
    write_json(
        folder / MODULES_FILE,
        [{**module, "path": "" if module["path"] == subfolder else module["path"]} for module in modules],
    )


def rewrite_document(document: Mapping[str, Any], kept: Sequence[int]) -> dict[str, Any]:
    """`tokenizer.json` with the token ids `kept`, ascending; new ids are their places.

    The normalizer, the pre-tokenizer and the decoder stay as they are.
    """
    new_ids = {old: new for new, old in enumerate(kept)}
    in_model = len(document["model"]["vocab"])
    changed = dict(document)
    changed["model"] = kind_of(document).rewrite(document, [id for id in kept if id < in_model])
    changed["added_tokens"] = sorted(
        ({**entry, "id": new_ids[int(entry["id"])]} for entry in document.get("added_tokens", [])),
        key=lambda entry: int(entry["id"]),
    )
    changed["post_processor"] = _post_processor(document.get("post_processor"), new_ids)
    if isinstance(document.get("padding"), Mapping):
        padding = document["padding"]
        changed["padding"] = {**padding, "pad_id": new_ids[int(padding["pad_id"])]}
    return changed


def referenced_ids(document: Mapping[str, Any], config: Mapping[str, Any]) -> set[int]:
    """Ids that the post-processor and `config.json` name, which are kept whatever they spell."""
    found = {int(entry["id"]) for entry in added_beyond(document)}
    found |= set(_ids_in(document.get("post_processor")))
    for name, value in config.items():
        if name.endswith("_token_id"):
            found |= {int(id) for id in (value if isinstance(value, list) else [value]) if id is not None}
    return found


def write_tokenizer(folder: Path, document: Mapping[str, Any], new_ids: NewIds) -> list[str]:
    """Writes `document`, already rewritten, and every other tokenizer file in step with it; returns notes."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    (folder / TOKENIZER_FILE).write_text(text, encoding="utf-8")
    _rewrite_tokenizer_config(folder / "tokenizer_config.json", new_ids)
    legacy = folder / "added_tokens.json"
    if legacy.is_file():
        added = _read(legacy)
        write_json(legacy, {token: new_ids[int(id)] for token, id in added.items() if int(id) in new_ids})
    kind = kind_of(document)
    tokens = kind.tokens(document)
    if (folder / "vocab.txt").is_file():
        (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    if (folder / "vocab.json").is_file():
        write_json(folder / "vocab.json", {token: id for id, token in enumerate(tokens)})
    if (folder / "merges.txt").is_file() and "merges" in document["model"]:
        lines = [" ".join(pair) for pair in document["model"]["merges"]]
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *lines, ""]), encoding="utf-8")
    return _rewrite_sentencepiece(folder, document, tokens)


def write_configs(checkpoint: Checkpoint, folder: Path, rows: int, new_ids: NewIds) -> None:
    """`config.json` (size and special ids), and the prompts where only a table knew them."""
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            write_json(folder / name, _config(_read(folder / name), rows, new_ids))
    prompts = folder / "config_sentence_transformers.json"
    spec = checkpoint.spec
    if spec.prompts:
        stated = _read(prompts) if prompts.is_file() else {}
        stated |= {"prompts": spec.prompts, "default_prompt_name": spec.default_prompt_name}
        write_json(prompts, stated)


def _config(config: Mapping[str, Any], rows: int, new_ids: NewIds) -> dict[str, Any]:
    changed = {key: value for key, value in config.items() if key != AUTO_MAP}  # such code stays behind
    if "vocab_size" in changed:
        changed["vocab_size"] = rows
    for name, value in config.items():
        if name.endswith("_token_id") and value is not None:
            changed[name] = (
                [new_ids[id] for id in value if id in new_ids]
                if isinstance(value, list)
                else new_ids.get(value)
            )
    return changed


def _post_processor(component: Any, new_ids: NewIds) -> Any:
    """The post-processor with new ids: templates list them, BERT's and RoBERTa's name `sep` and `cls`."""
    if isinstance(component, list):
        return [_post_processor(part, new_ids) for part in component]
    if not isinstance(component, Mapping):
        return component
    changed = {}
    for name, value in component.items():
        if name in ("sep", "cls") and isinstance(value, list):
            changed[name] = [value[0], new_ids[int(value[1])]]
        elif name == "ids" and isinstance(value, list):
            changed[name] = [new_ids[int(id)] for id in value]
        else:
            changed[name] = _post_processor(value, new_ids)
    return changed


def _ids_in(component: Any) -> list[int]:
    found: list[int] = []

    class Recorder(dict[int, int]):
        def __missing__(self, id: int) -> int:
            found.append(id)
            return id

    _post_processor(component, Recorder())
    return found


def _rewrite_tokenizer_config(file: Path, new_ids: NewIds) -> None:
    if not file.is_file():
        return
    config = _read(file)
    decoder = config.get("added_tokens_decoder")
    if isinstance(decoder, Mapping):
        kept = {new_ids[int(id)]: entry for id, entry in decoder.items() if int(id) in new_ids}
        config["added_tokens_decoder"] = {str(id): kept[id] for id in sorted(kept)}
    write_json(file, config)


def _rewrite_sentencepiece(folder: Path, document: Mapping[str, Any], tokens: Sequence[str]) -> list[str]:
    """Other converters prefer these files over `tokenizer.json`: they are cut alike, or removed."""
    notes = []
    for file in (folder / name for name in _SENTENCEPIECE_FILES):
        if not file.is_file():
            continue
        if document["model"]["type"] == "Unigram":
            file.write_bytes(spm.keep_pieces(file.read_bytes(), frozenset(tokens)))
            notes.append(f"{file.name} was cut to the same pieces")
        else:
            file.unlink()
            notes.append(f"{file.name} was removed: it held the full vocabulary")
    return notes


def _read(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise CheckpointError(f"{file} cannot be read as JSON", why=str(error)) from None
