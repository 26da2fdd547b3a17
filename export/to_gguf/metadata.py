"""The keys of a GGUF file: what it is, its shape for llama.cpp, its tokenizer, and where it came from."""

from __future__ import annotations

from typing import Any

from ringkas.builtin import published_name
from ringkas.checkpoint import Checkpoint
from ringkas.export.to_gguf.architecture import Architecture
from ringkas.export.to_gguf.tokenizer import Vocabulary
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
    config = checkpoint.config
    writer.add_context_length(checkpoint.family.max_positions(config))
    writer.add_embedding_length(int(config["hidden_size"]))
    writer.add_feed_forward_length(int(config["intermediate_size"]))
    writer.add_block_count(int(config["num_hidden_layers"]))
    writer.add_head_count(int(config["num_attention_heads"]))
    key, default = architecture.norm_epsilon
    writer.add_layer_norm_eps(float(config.get(key, default)))
    writer.add_causal_attention(False)
    writer.add_uint32(f"{architecture.name}.pooling_type", POOLING_NUMBERS[checkpoint.spec.pooling.modes])
    if architecture.rotary:
        _rotary(writer, config)


def _rotary(writer: Any, config: Any) -> None:
    import gguf

    parameters = config.get("rope_parameters") or {}
    everywhere = parameters.get("full_attention", {}).get("rope_theta") or config.get(
        "global_rope_theta", 160000.0
    )
    nearby = parameters.get("sliding_attention", {}).get("rope_theta") or config.get(
        "local_rope_theta", 10000.0
    )
    writer.add_rope_freq_base(float(everywhere))
    writer.add_rope_freq_base_swa(float(nearby))
    writer.add_rope_scaling_type(gguf.RopeScalingType.NONE)
    writer.add_sliding_window(int(config.get("local_attention", 128)))
    kinds = config.get("layer_types")
    if kinds:
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in kinds])
    else:
        writer.add_sliding_window_pattern(int(config.get("global_attn_every_n_layers", 3)))
    writer.add_vocab_size(int(config["vocab_size"]))
    writer.add_string("modern-bert.hidden_activation", config.get("hidden_activation") or "gelu")


def _tokenizer(writer: Any, vocabulary: Vocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre("default")
    writer.add_token_list([token.encode("utf-8") for token in vocabulary.tokens])
    if vocabulary.scores:
        writer.add_token_scores(list(vocabulary.scores))
    writer.add_token_types(list(vocabulary.types))
    if vocabulary.charsmap:
        writer.add_precompiled_charsmap(vocabulary.charsmap)
    for name, value in vocabulary.special_ids.items():
        if value >= 0:
            writer.add_uint32(f"tokenizer.ggml.{name}_token_id", value)
    for name, flag in vocabulary.flags.items():
        writer.add_bool(f"tokenizer.ggml.{name}", flag)


def _is_hub_id(source: str) -> bool:
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))
