"""The keys of a GGUF file: what it is, its shape for llama.cpp, its tokenizer, and where it came from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ringkas.builtin import published_name
from ringkas.checkpoint import Checkpoint
from ringkas.export.to_gguf.architecture import Architecture
from ringkas.export.to_gguf.tokenizer import Vocabulary
from ringkas.family import GgufValue
from ringkas.quantize.for_gguf.schemes import GgufScheme
from ringkas.runtimes.engines.llama_check import POOLING_NUMBERS
from ringkas.version import __version__

_HUB = "https://huggingface.co/"


def write_metadata(
    writer: Any,
    checkpoint: Checkpoint,
    architecture: Architecture,
    vocabulary: Vocabulary,
    scheme: GgufScheme,
) -> None:
    """Adds every key to a `gguf.GGUFWriter`."""
    _general(writer, checkpoint, scheme)
    _shape(writer, checkpoint, architecture)
    _tokenizer(writer, vocabulary)


def size_label(parameters: int) -> str:
    """The number of weights as the GGUF naming convention writes it: 23M, 560M, 1.2B."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if parameters >= unit:
            value = parameters / unit
            return f"{value:.1f}".removesuffix(".0") + name if value < 10 else f"{value:.0f}{name}"
    return str(parameters)


def _general(writer: Any, checkpoint: Checkpoint, scheme: GgufScheme) -> None:
    writer.add_type("model")
    writer.add_name(checkpoint.name)
    writer.add_file_type(scheme.file_type)
    if checkpoint.note:
        writer.add_description(checkpoint.note)
    writer.add_quantization_version(2)
    if checkpoint.licence:
        writer.add_license(checkpoint.licence)
    if checkpoint.languages:
        writer.add_languages(list(checkpoint.languages))
    writer.add_tags(["sentence-similarity", "feature-extraction", "ringkas"])
    source = published_name(checkpoint.origin)
    if _is_hub_id(source):
        writer.add_base_model_count(1)
        writer.add_base_model_name(0, source.rsplit("/", 1)[-1])
        writer.add_base_model_organization(0, source.split("/", 1)[0])
        writer.add_base_model_repo_url(0, _HUB + source)
    writer.add_string("ringkas.version", __version__)
    writer.add_string("ringkas.target", scheme.name)
    writer.add_string("ringkas.source.name", checkpoint.name)
    writer.add_string("ringkas.source.revision", checkpoint.revision or "")
    writer.add_bool("ringkas.normalize", checkpoint.spec.normalize)
    writer.add_uint32("ringkas.max_length", checkpoint.spec.max_length)
    for name, text in checkpoint.spec.prompts.items():
        writer.add_string(f"ringkas.prompt.{name}", text)


def _shape(writer: Any, checkpoint: Checkpoint, architecture: Architecture) -> None:
    family, config, facts = checkpoint.family, checkpoint.config, architecture.gguf
    # The key that llama.cpp's programs obey: what is longer is cut or refused there, never read to the end.
    writer.add_context_length(checkpoint.spec.max_length)
    writer.add_embedding_length(int(family.value(config, "hidden_size")))
    writer.add_feed_forward_length(int(family.value(config, "intermediate_size")))
    writer.add_block_count(int(family.value(config, "num_hidden_layers")))
    writer.add_head_count(int(family.value(config, "num_attention_heads")))
    key, default = facts.epsilon
    epsilon = float(default if key is None else config.get(key, default))
    (writer.add_layer_norm_rms_eps if facts.rms else writer.add_layer_norm_eps)(epsilon)
    writer.add_causal_attention(family.is_causal(config))
    writer.add_uint32(f"{architecture.name}.pooling_type", POOLING_NUMBERS[checkpoint.spec.pooling.modes])
    for name, value in facts.keys(config).items():
        _add(writer, f"{architecture.name}.{name}", value)


def write_heads(writer: Any, checkpoint: Checkpoint, rows: Mapping[str, int]) -> None:
    """How wide a head is and how many heads share keys and values, by the rows of a layer's matrices."""
    size = rows["blk.0.attn_q.weight"] // int(
        checkpoint.family.value(checkpoint.config, "num_attention_heads")
    )
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_head_count_kv(rows["blk.0.attn_k.weight"] // size)


def _add(writer: Any, key: str, value: GgufValue) -> None:
    adders: dict[type, Callable[[str, Any], None]] = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    adders[type(value)](key, value)


def _tokenizer(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list([token.encode("utf-8") for token in vocabulary.tokens])
    if vocabulary.scores:
        writer.add_token_scores(list(vocabulary.scores))
    writer.add_token_types(list(vocabulary.types))
    if vocabulary.merges:
        writer.add_token_merges(list(vocabulary.merges))
    if vocabulary.charsmap:
        writer.add_precompiled_charsmap(vocabulary.charsmap)
    for name, value in vocabulary.special_ids.items():
        if value >= 0:
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", value)
    for name, flag in vocabulary.flags.items():
        writer.add_bool(f"tokenizer.ggml.{name}", flag)


def _is_hub_id(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))
