"""Every key of every file that a checkpoint's own library reads: honoured, harmless, or refused.

Facts as a table, so that nothing is ignored in silence: a key that changes ids, limits or vectors is honoured
or refused, and one that no table knows is reported. What the tables do not know is caught by the witness
(runtimes/parity/witness.py). Read from the sources of sentence-transformers 6.2 and transformers 5.24.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ringkas.errors import CheckpointError

HONOURED, HARMLESS, REFUSED = "honoured", "harmless", "refused"


@dataclass(frozen=True)
class Rule:
    """What becomes of a key.

    Args:
        fate: `HONOURED`, `HARMLESS` or `REFUSED`.
        reason: what honours it, why it changes nothing, or why it cannot be done.
        allowed: values of a refused key that change nothing.
        fix: what to do about a refused one.
    """

    fate: str
    reason: str
    allowed: tuple[Any, ...] = ()
    fix: str = "Correct it where sentence-transformers agrees, or use a checkpoint without it"


def _keys(fate: str, reason: str, keys: str) -> dict[str, Rule]:
    return {key: Rule(fate, reason) for key in keys.split()}


def _unless(reason: str, *allowed: Any, fix: str = Rule.fix) -> Rule:
    return Rule(REFUSED, reason, (None, *allowed), fix)


Table = Mapping[str, Rule]
_FULL_PRECISION = "Name the checkpoint that it was made from, in full precision: ringkas quantises by itself"
_MERGE = "Merge it into the base model first: peft's merge_and_unload(), then save_pretrained(FOLDER)"
_PLAIN_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}

# The configuration of the encoder. Its computation is transformers' own, in the reference as in the library.
CONFIG: Table = {
    **_keys(
        HONOURED,
        "the reference is the model that transformers makes of it",
        "model_type architectures hidden_size num_hidden_layers num_attention_heads intermediate_size "
        "hidden_act hidden_activation layer_norm_eps layer_norm_epsilon norm_eps norm_bias "
        "attention_bias mlp_bias max_position_embeddings type_vocab_size vocab_size pad_token_id "
        "global_attn_every_n_layers local_attention global_rope_theta local_rope_theta rope_theta "
        "rope_scaling rope_parameters rope_local_base_freq layer_types sliding_window "
        "sliding_window_pattern _sliding_window_pattern max_window_layers use_sliding_window head_dim "
        "num_key_value_heads rms_norm_eps query_pre_attn_scalar attn_logit_softcapping "
        "final_logit_softcapping use_bidirectional_attention is_causal embedding_size "
        "relative_attention_num_buckets n_embd n_head n_layer n_inner n_positions activation_function "
        "layer_norm_type scale_attention_softmax rotary_emb_base rotary_emb_fraction sinusoidal_pos_embds",
    ),
    **_keys(HARMLESS, "training alone uses it", "attention_probs_dropout_prob hidden_dropout_prob "
        "attention_dropout embedding_dropout mlp_dropout classifier_dropout classifier_dropout_prob "
        "hidden_dropout dropout attn_pdrop embd_pdrop resid_pdrop initializer_range "
        "initializer_cutoff_factor initializer_factor gradient_checkpointing sparse_prediction "
        "sparse_pred_ignore_index finetuning_task problem_type task_specific_params qa_dropout "
        "seq_classif_dropout"),
    **_keys(HARMLESS, "a head over the encoder, which an embedding has not", "id2label label2id num_labels "
        "classifier_activation classifier_bias classifier_pooling clf_pooling dense_seq_output "
        "decoder_bias tie_word_embeddings tie_weights_ pooler_fc_size pooler_num_attention_heads "
        "pooler_num_fc_layers pooler_size_per_head "
        "pooler_type directionality summary_activation summary_first_dropout summary_proj_to_labels "
        "summary_type summary_use_proj bad_words_ids"),
    **_keys(HARMLESS, "ids come from tokenizer.json", "bos_token_id eos_token_id cls_token_id sep_token_id "
        "mask_token_id unk_token_id decoder_start_token_id tokenizer_class bos_token eos_token pad_token "
        "mask_token"),
    **_keys(HARMLESS, "it says how to compute, not what", "torch_dtype dtype use_cache output_past "
        "cache_implementation chunk_size_feed_forward _attn_implementation attn_implementation "
        "attn_implementation_autoset _attn_implementation_autoset reference_compile "
        "repad_logits_with_grad deterministic_flash_attn pretraining_tp output_attentions "
        "output_hidden_states return_dict torchscript use_bfloat16 unpad_inputs use_flash_attn use_xentropy "
        "use_memory_efficient_attention fused_bias_fc fused_dropout_add_ln reorder_and_upcast_attn "
        "pad_vocab_size_multiple"),
    **_keys(HARMLESS, "a record", "transformers_version _name_or_path name_or_path _commit_hash "
        "transformers.js_config license position_embedding_source prefix max_trained_positions"),
    "auto_map": Rule(HONOURED, "refused on its own where no class of transformers' own stands for it"),
    "is_decoder": _unless("its attention would be causal and the reference's is not", False),
    "add_cross_attention": _unless("nothing is attended to across", False),
    "is_encoder_decoder": _unless("only encoders are converted", False),
    "position_embedding_type": _unless(
        "transformers 5 computes absolute positions whatever it says, so that the vectors would not be those "
        "it was trained for", "absolute",
        fix="Use a checkpoint with absolute positions"),
    "pruned_heads": _unless("heads that are pruned at loading are not carried", {}),
    "quantization_config": _unless("its weights are quantised already", fix=_FULL_PRECISION),
    "compression_config": _unless("its weights are compressed already", fix=_FULL_PRECISION),
    "adapters": _unless("adapters beside the base weights are not carried", {}, fix=_MERGE),
    "adapter_fusions": _unless("adapters beside the base weights are not carried", {}, fix=_MERGE),
}  # fmt: skip

# sentence_bert_config.json and its six siblings: how sentence-transformers makes its first module.
TRANSFORMER: Table = {
    **_keys(HONOURED, "as sentence-transformers reads it", "max_seq_length do_lower_case"),
    **_keys(HONOURED, "as if it stood in tokenizer_config.json", "tokenizer_args processor_kwargs"),
    **_keys(HARMLESS, "it says how to compute, not what", "unpad_inputs backend"),
    "transformer_task": _unless("only encoders are converted", "feature-extraction"),
    "modality_config": _unless("only text is encoded, by the last hidden state", _PLAIN_TEXT),
    "module_output_name": _unless("only token embeddings are pooled", "token_embeddings"),
    "processing_kwargs": _unless("options of the call to the tokenizer are not carried", {}),
    "query_length": _unless("an artifact has one limit, for queries and documents alike"),
    "document_length": _unless("an artifact has one limit, for queries and documents alike"),
    "query_expansion": _unless("late interaction is not supported"),
    "tokenizer_name_or_path": _unless("the tokenizer must be in the folder"),
    "config_args": _unless("config.json alone says what the encoder is", {},
        fix="Write its values into config.json"),
    "config_kwargs": _unless("config.json alone says what the encoder is", {},
        fix="Write its values into config.json"),
    "model_args": Rule(HONOURED, "refused where a key of it is not harmless"),
    "model_kwargs": Rule(HONOURED, "refused where a key of it is not harmless"),
}  # fmt: skip

# What `model_args` may hold: the reference is float32, has no pooler, and computes attention in one way.
MODEL_ARGUMENTS: Table = _keys(
    HARMLESS,
    "it says how to compute, not what",
    "torch_dtype dtype attn_implementation use_safetensors low_cpu_mem_usage device_map add_pooling_layer "
    "local_files_only token trust_remote_code",
)

TOKENIZER: Table = {
    **_keys(HONOURED, "as transformers reads it", "tokenizer_class model_max_length max_len truncation_side "
        "pad_token do_lower_case strip_accents tokenize_chinese_chars"),
    **_keys(HONOURED, "refused where tokenizer.json does not know the token", "unk_token sep_token cls_token "
        "bos_token eos_token mask_token additional_special_tokens extra_special_tokens "
        "added_tokens_decoder image_token boi_token eoi_token audio_token boa_token eoa_token"),
    **_keys(HARMLESS, "transformers 5 goes by the template of tokenizer.json", "add_bos_token add_eos_token"),
    "padding_side": Rule(HONOURED, "refused where positions count the padding"),
    **_keys(HARMLESS, "decoding alone uses it", "clean_up_tokenization_spaces spaces_between_special_tokens "
        "skip_special_tokens"),
    **_keys(HARMLESS, "the Python tokenizers of old alone used it", "do_basic_tokenize never_split "
        "sp_model_kwargs use_fast legacy vocab_file merges_file spm_file from_slow keep_accents "
        "remove_space do_word_tokenize do_subword_tokenize word_tokenizer_type subword_tokenizer_type "
        "mecab_kwargs sudachi_kwargs jumanpp_kwargs use_default_system_prompt"),
    **_keys(HARMLESS, "sentence-transformers pads and truncates by its own call", "max_length stride padding "
        "truncation truncation_strategy pad_to_multiple_of pad_token_type_id pad_type_id"),
    **_keys(HARMLESS, "in tokenizer.json already", "add_prefix_space trim_offsets errors unk_id "
        "wordpieces_prefix tokenizer_file"),
    **_keys(HARMLESS, "a record", "name_or_path special_tokens_map_file model_input_names chat_template "
        "processor_class backend is_local local_files_only tokenizer_type _commit_hash response_schema "
        "model_specific_special_tokens extra_ids model_type return_token_type_ids"),
    "split_special_tokens": _unless("tokenizer.json cannot say it", False),
    "auto_map": _unless("code that comes with a checkpoint is never run"),
}  # fmt: skip

SENTENCE_TRANSFORMERS: Table = {
    **_keys(HONOURED, "as sentence-transformers reads it", "prompts default_prompt_name similarity_fn_name"),
    **_keys(HARMLESS, "a record, which the library checks itself", "__version__ requirements"),
    "model_type": _unless("only a SentenceTransformer makes one vector of a text", "SentenceTransformer"),
    "truncate_dim": _unless(
        "an artifact has all dimensions", fix="Take it away, and use encode(dimensions=N)"
    ),
}

POOLING: Table = _keys(
    HONOURED,
    "as sentence-transformers reads it",
    "word_embedding_dimension embedding_dimension pooling_mode pooling_mode_cls_token "
    "pooling_mode_max_tokens pooling_mode_mean_tokens pooling_mode_mean_sqrt_len_tokens "
    "pooling_mode_weightedmean_tokens pooling_mode_lasttoken include_prompt",
)

_ONLY_THE_VECTOR = _unless("only the pooled vector is passed on", "sentence_embedding")
DENSE: Table = {
    **_keys(
        HONOURED, "as sentence-transformers reads it", "in_features out_features bias activation_function"
    ),
    "use_residual": Rule(HONOURED, "refused where it is true"),
    "module_input_name": _ONLY_THE_VECTOR,
    "module_output_name": _ONLY_THE_VECTOR,
}
NORMALIZE: Table = {"module_input_name": _ONLY_THE_VECTOR, "module_output_name": _ONLY_THE_VECTOR}
MODULE: Table = {
    **_keys(HONOURED, "as sentence-transformers reads it", "name path type"),
    "idx": Rule(HARMLESS, "the order of the list counts"),
    "kwargs": _unless("modules get no arguments of a call", [], {}),
}

# Files whose presence alone says that the weights are not the whole model.
REFUSED_FILES: Mapping[str, tuple[str, str]] = {
    "adapter_config.json": ("an adapter beside the base weights (adapter_config.json)", _MERGE),
    "quantize_config.json": ("weights that GPTQ quantised (quantize_config.json)", _FULL_PRECISION),
    "quant_config.json": ("weights that AWQ quantised (quant_config.json)", _FULL_PRECISION),
}


def check_settings(file: Path, stated: Mapping[str, Any], table: Table) -> list[str]:
    """What is to be said of the keys that `table` does not know.

    Raises:
        CheckpointError: a key is refused.
    """
    unknown = []
    for key, value in stated.items():
        rule = table.get(key)
        if rule is None:
            unknown.append(key)
        elif rule.fate == REFUSED and value not in rule.allowed:
            raise CheckpointError(
                f"{file} sets {_shown(key, value)}, which is not supported", why=rule.reason, fix=rule.fix
            )
    if not unknown:
        return []
    keys = ", ".join(unknown[:8]) + (f" and {len(unknown) - 8} more" if len(unknown) > 8 else "")
    return [f"{file.name} has keys that ringkas does not know: {keys}"]


def check_files(path: Path) -> None:
    """Raises `CheckpointError` for a folder whose weights are an adapter's or quantised."""
    for name, (what, fix) in REFUSED_FILES.items():
        if (path / name).is_file():
            raise CheckpointError(f"{path} holds {what}", fix=fix)


def _shown(key: str, value: Any) -> str:
    if key in ("quantization_config", "compression_config") and isinstance(value, Mapping):
        method = (
            value.get("quant_method") or value.get("quantization_method") or "a method that it does not name"
        )
        return f"{key} ({method})"
    text = re.sub(r"\s+", " ", repr(value))
    return f"{key} to {text if len(text) <= 60 else text[:57] + '...'}"
