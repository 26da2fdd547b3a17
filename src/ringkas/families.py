"""The families: one row for each architecture, with every fact that any stage needs (family.py says which).

To add one, add its row and a test file in tests/families.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from ringkas.errors import CheckpointError
from ringkas.family import (
    ATTENTION_INPUT,
    ATTENTION_OUTPUT,
    FEED_FORWARD_INPUT,
    FEED_FORWARD_OUTPUT,
    Config,
    Family,
    Gguf,
    GgufValue,
    Handling,
    Positions,
    Role,
)

_BERT_ROLES = (
    Role(
        ATTENTION_INPUT,
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        Handling.CENTRED,
    ),
    Role(ATTENTION_OUTPUT, ("attention.output.dense",), Handling.ROW),
    Role(FEED_FORWARD_INPUT, ("intermediate.dense",), Handling.CENTRED),
    Role(FEED_FORWARD_OUTPUT, ("output.dense",), Handling.ROW, 4),
)

# llama.cpp's BERT graph has the tanh form of GELU and nothing else; the two differ by less than 5e-4.
_GELU = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_python")

# What every encoder has that norms after each half of a layer.
_POST_NORM_SHAPES = {
    "token_embd.weight": ("width", "vocabulary"),
    "token_types.weight?": ("width", "token_types"),
    "token_embd_norm.weight": ("width",),
    "token_embd_norm.bias": ("width",),
    **{f"blk.{{}}.attn_{part}.weight": ("width", "width") for part in ("q", "k", "v", "output")},
    "blk.{}.attn_output_norm.weight": ("width",),
    "blk.{}.attn_output_norm.bias": ("width",),
    "blk.{}.ffn_up.weight": ("width", "inner"),
    "blk.{}.ffn_down.weight": ("inner", "width"),
    "blk.{}.layer_output_norm.weight": ("width",),
    "blk.{}.layer_output_norm.bias": ("width",),
}

_BERT_GGUF = Gguf(
    "bert",
    {
        **_POST_NORM_SHAPES,
        "position_embd.weight": ("width", "context"),
        **{f"blk.{{}}.attn_{part}.bias?": ("width",) for part in ("q", "k", "v", "output")},
        "blk.{}.ffn_up.bias?": ("inner",),
        "blk.{}.ffn_down.bias?": ("width",),
    },
    epsilon=("layer_norm_eps", 1e-12),
    required={
        "hidden_act": (*_GELU, None),  # unstated it is what transformers takes: gelu
        "position_embedding_type": ("absolute", None),
        "is_decoder": (False, None),
    },
)

_ROBERTA_HEADS = ("lm_head.decoder.weight", "lm_head.decoder.bias", "lm_head.bias", "lm_head.weight")


def _modernbert_keys(config: Config) -> dict[str, GgufValue]:
    rope = config.get("rope_parameters") or {}
    everywhere = rope.get("full_attention", {}).get("rope_theta") or config.get("global_rope_theta", 160000.0)
    nearby = rope.get("sliding_attention", {}).get("rope_theta") or config.get("local_rope_theta", 10000.0)
    kinds = config.get("layer_types")
    return {
        "rope.freq_base": float(everywhere),
        "rope.freq_base_swa": float(nearby),
        "rope.scaling.type": "none",
        "attention.sliding_window": int(config.get("local_attention", 128)),
        "attention.sliding_window_pattern": (
            [kind == "sliding_attention" for kind in kinds]
            if kinds
            else int(config.get("global_attn_every_n_layers", 3))
        ),
        "vocab_size": int(config["vocab_size"]),
        "hidden_activation": config.get("hidden_activation") or "gelu",
    }


# What code of gte's and nomic_bert's own reads, at the values at which transformers' classes agree with it.
_GTE_FIXED = {
    "position_embedding_type": ("rope",),
    "layer_norm_type": ("layer_norm",),
    "logn_attention_scale": (False,),
    "logn_attention_clip1": (False,),
    "pack_qkv": (True,),
}
_NOMIC_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 2048,
}
_NOMIC_FIXED = {
    "n_embd": (768,),
    "n_layer": (12,),
    "n_head": (12,),
    "n_inner": (3072,),
    "activation_function": ("swiglu",),
    "layer_norm_epsilon": (1e-12,),
    "rotary_emb_base": (1000,),
    "rotary_emb_fraction": (1,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (),
    "rotary_scaling_factor": (),
    "scale_attn_weights": (True,),
    **{
        key: (False,)
        for key in (
            "qkv_proj_bias", "mlp_fc1_bias", "mlp_fc2_bias", "prenorm", "parallel_block",
            "parallel_block_tied_norm", "causal", "use_rms_norm", "scale_attn_by_inverse_layer_idx",
        )
    },
}  # fmt: skip

# Decoders and their kind: gated feed-forward, rotary positions, heads that share keys and values.
_DECODER_ROLES = (
    Role(
        ATTENTION_INPUT, ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), Handling.CENTRED_ROW, 4
    ),
    Role(ATTENTION_OUTPUT, ("self_attn.o_proj",), Handling.ROW, 4),
    Role(FEED_FORWARD_INPUT, ("mlp.gate_proj", "mlp.up_proj"), Handling.CENTRED_ROW, 4),
    Role(FEED_FORWARD_OUTPUT, ("mlp.down_proj",), Handling.ROW, 4),
)


def _rope_keys(config: Config, usual: float = 10000.0) -> dict[str, GgufValue]:
    rope = config.get("rope_parameters") or {}
    return {"rope.freq_base": float(rope.get("rope_theta") or config.get("rope_theta") or usual)}


_LLAMA_GGUF = Gguf(
    "llama",
    {
        "token_embd.weight": ("width", "vocabulary"),
        "output_norm.weight": ("width",),
        "blk.{}.attn_norm.weight": ("width",),
        "blk.{}.attn_q.weight": ("width", "queries"),
        "blk.{}.attn_q.bias?": ("queries",),
        "blk.{}.attn_k.weight": ("width", "shared"),
        "blk.{}.attn_k.bias?": ("shared",),
        "blk.{}.attn_v.weight": ("width", "shared"),
        "blk.{}.attn_v.bias?": ("shared",),
        "blk.{}.attn_output.weight": ("queries", "width"),
        "blk.{}.attn_output.bias?": ("width",),
        "blk.{}.ffn_norm.weight": ("width",),
        "blk.{}.ffn_gate.weight": ("width", "inner"),
        "blk.{}.ffn_gate.bias?": ("inner",),
        "blk.{}.ffn_up.weight": ("width", "inner"),
        "blk.{}.ffn_up.bias?": ("inner",),
        "blk.{}.ffn_down.weight": ("inner", "width"),
        "blk.{}.ffn_down.bias?": ("width",),
    },
    epsilon=("rms_norm_eps", 1e-6),
    required={"hidden_act": ("silu", None)},
    keys=_rope_keys,
    rms=True,
    paired_rotary=True,
)

_EUROBERT_GGUF = Gguf(
    "eurobert",
    {name: sizes for name, sizes in _LLAMA_GGUF.shapes.items() if not name.endswith(".bias?")},
    epsilon=("rms_norm_eps", 1e-5),
    required={"hidden_act": ("silu", None), "attention_bias": (False, None), "mlp_bias": (False, None)},
    keys=_rope_keys,
    rms=True,
)


_NOMIC_GGUF = Gguf(
    "nomic-bert",
    {
        **_POST_NORM_SHAPES,
        "blk.{}.ffn_gate.weight": ("width", "inner"),
    },
    epsilon=("layer_norm_eps", 1e-12),
    required={"hidden_act": ("silu", None)},
    keys=partial(_rope_keys, usual=1000.0),
    names={
        **{f"layers.{{}}.self_attn.{part}_proj": f"blk.{{}}.attn_{part}" for part in ("q", "k", "v")},
        "layers.{}.post_attention_layernorm": "blk.{}.attn_output_norm",
        "layers.{}.post_mlp_layernorm": "blk.{}.layer_output_norm",
    },
)

# A layer of the graphs that norm queries and keys head by head.
_QK_NORM_LAYER = {
    "blk.{}.attn_norm.weight": ("width",),
    "blk.{}.attn_q.weight": ("width", "queries"),
    "blk.{}.attn_q_norm.weight": ("head",),
    "blk.{}.attn_k.weight": ("width", "shared"),
    "blk.{}.attn_k_norm.weight": ("head",),
    "blk.{}.attn_v.weight": ("width", "shared"),
    "blk.{}.attn_output.weight": ("queries", "width"),
    "blk.{}.ffn_norm.weight": ("width",),
    "blk.{}.ffn_gate.weight": ("width", "inner"),
    "blk.{}.ffn_up.weight": ("width", "inner"),
    "blk.{}.ffn_down.weight": ("inner", "width"),
}


def _gemma_keys(config: Config) -> dict[str, GgufValue]:
    rope = config.get("rope_parameters") or {}
    everywhere = rope.get("full_attention", {}).get("rope_theta") or config.get("rope_theta") or 1e6
    nearby = rope.get("sliding_attention", {}).get("rope_theta") or config.get("rope_local_base_freq") or 1e4
    kinds = config.get("layer_types")
    every = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern") or 6
    return {
        "rope.freq_base": float(everywhere),
        "rope.freq_base_swa": float(nearby),
        "attention.sliding_window": int(config.get("sliding_window") or 4096),
        "attention.sliding_window_pattern": (
            [kind == "sliding_attention" for kind in kinds] if kinds else int(every)
        ),
    }


_GEMMA_GGUF = Gguf(
    "gemma3",
    {
        "token_embd.weight": ("width", "vocabulary"),
        "output_norm.weight": ("width",),
        **_QK_NORM_LAYER,
        "blk.{}.post_attention_norm.weight": ("width",),
        "blk.{}.post_ffw_norm.weight": ("width",),
    },
    epsilon=("rms_norm_eps", 1e-6),
    required={
        "hidden_activation": ("gelu_pytorch_tanh", None),
        "attention_bias": (False, None),
        "attn_logit_softcapping": (None,),
        "is_causal": (True, None),  # the window would be as wide on both sides, where llama.cpp halves it
    },
    keys=_gemma_keys,
    rms=True,
    norm_shift=1.0,
    windows=True,
)

_XLM_ROBERTA = Family(
    "xlm-roberta",
    architectures=("XLMRobertaModel", "XLMRobertaForMaskedLM"),
    layers="encoder.layer",
    roles=_BERT_ROLES,
    token_table="embeddings.word_embeddings",
    heads=_ROBERTA_HEADS,
    positions=Positions.AFTER_PAD,
    additive_mask=True,
    token_types=True,
    loading={"add_pooling_layer": False},
    plain_attention=True,
    gguf=_BERT_GGUF,  # whose position table starts at another row
)

_LLAMA = Family(
    "llama",
    architectures=("LlamaModel", "LlamaForCausalLM"),
    layers="layers",
    roles=_DECODER_ROLES,
    token_table="embed_tokens",
    heads=("lm_head.weight",),
    positions=Positions.ROTARY,
    gated=True,
    grouped_heads=True,
    causal=True,
    final_norm="norm",
    two_ways={"is_causal": False},
    gguf=_LLAMA_GGUF,
)

_ALL = (
    Family(
        "bert",
        architectures=("BertModel", "BertForMaskedLM"),
        layers="encoder.layer",
        roles=_BERT_ROLES,
        token_table="embeddings.word_embeddings",
        heads=("cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "cls.predictions.bias"),
        positions=Positions.FROM_ZERO,
        additive_mask=True,
        token_types=True,
        position_ids=True,
        loading={"add_pooling_layer": False},
        plain_attention=True,
        gguf=_BERT_GGUF,
    ),
    _XLM_ROBERTA,
    replace(
        _XLM_ROBERTA,
        name="roberta",
        architectures=("RobertaModel", "RobertaForMaskedLM"),
    ),
    replace(
        _XLM_ROBERTA,
        name="camembert",
        architectures=("CamembertModel", "CamembertForMaskedLM"),
    ),
    Family(
        "distilbert",
        architectures=("DistilBertModel", "DistilBertForMaskedLM"),
        layers="transformer.layer",
        roles=(
            Role(
                ATTENTION_INPUT,
                ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
                Handling.CENTRED,
            ),
            Role(ATTENTION_OUTPUT, ("attention.out_lin",), Handling.ROW),
            Role(FEED_FORWARD_INPUT, ("ffn.lin1",), Handling.CENTRED),
            Role(FEED_FORWARD_OUTPUT, ("ffn.lin2",), Handling.ROW, 4),
        ),
        token_table="embeddings.word_embeddings",
        heads=("vocab_projector.weight", "vocab_projector.bias"),
        positions=Positions.FROM_ZERO,
        additive_mask=True,
        position_ids=True,
        plain_attention=True,
        config_names={
            "hidden_size": "dim",
            "intermediate_size": "hidden_dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "hidden_act": "activation",
        },
        gguf=replace(_BERT_GGUF, epsilon=(None, 1e-12)),
    ),
    Family(
        "mpnet",
        architectures=("MPNetModel", "MPNetForMaskedLM"),
        layers="encoder.layer",
        roles=(
            Role(
                ATTENTION_INPUT,
                ("attention.attn.q", "attention.attn.k", "attention.attn.v"),
                Handling.CENTRED,
            ),
            Role(ATTENTION_OUTPUT, ("attention.attn.o",), Handling.ROW),
            Role(FEED_FORWARD_INPUT, ("intermediate.dense",), Handling.CENTRED),
            Role(FEED_FORWARD_OUTPUT, ("output.dense",), Handling.ROW, 4),
        ),
        token_table="embeddings.word_embeddings",
        heads=_ROBERTA_HEADS,
        positions=Positions.FROM_TWO,
        additive_mask=True,
        loading={"add_pooling_layer": False},
        biased_attention="attention.attn",
        gguf="llama.cpp has no graph for MPNet, whose attention adds a bias for each relative position",
    ),
    Family(
        "modernbert",
        architectures=("ModernBertModel", "ModernBertForMaskedLM"),
        layers="layers",
        roles=(
            Role(ATTENTION_INPUT, ("attn.Wqkv",), Handling.CENTRED),
            Role(ATTENTION_OUTPUT, ("attn.Wo",), Handling.ROW),
            Role(FEED_FORWARD_INPUT, ("mlp.Wi",), Handling.CENTRED),
            Role(FEED_FORWARD_OUTPUT, ("mlp.Wo",), Handling.ROW, 4),
        ),
        token_table="embeddings.tok_embeddings",
        heads=("decoder.weight", "decoder.bias"),
        positions=Positions.ROTARY,
        gated=True,  # it makes a mask for each window, so it is given the 0/1 mask
        gguf=Gguf(
            "modern-bert",
            {
                "token_embd.weight": ("width", "vocabulary"),
                "token_embd_norm.weight": ("width",),
                "output_norm.weight": ("width",),
                "blk.{}.attn_norm.weight?": ("width",),
                "blk.{}.attn_qkv.weight": ("width", "three_widths"),
                "blk.{}.attn_output.weight": ("width", "width"),
                "blk.{}.ffn_up.weight": ("width", "two_inner"),
                "blk.{}.ffn_down.weight": ("inner", "width"),
                "blk.{}.ffn_norm.weight": ("width",),
            },
            epsilon=("norm_eps", 1e-5),
            required={
                "hidden_activation": ("gelu", "silu", None),
                "norm_bias": (False, None),
                "attention_bias": (False, None),
                "mlp_bias": (False, None),
            },
            keys=_modernbert_keys,
            windows=True,
        ),
    ),
    _LLAMA,
    replace(
        _LLAMA,
        name="mistral",  # llama's graph in llama.cpp, which has no window
        architectures=("MistralModel", "MistralForCausalLM"),
    ),
    replace(
        _LLAMA,
        name="qwen3",
        architectures=("Qwen3Model", "Qwen3ForCausalLM"),
        gguf=Gguf(
            "qwen3",
            {
                "token_embd.weight": ("width", "vocabulary"),
                "output_norm.weight": ("width",),
                **_QK_NORM_LAYER,
            },
            epsilon=("rms_norm_eps", 1e-6),
            required={"hidden_act": ("silu", None), "attention_bias": (False, None)},
            keys=_rope_keys,
            rms=True,
        ),
    ),
    replace(
        _LLAMA,
        name="gemma3_text",
        architectures=("Gemma3TextModel", "Gemma3ForCausalLM"),
        roles=tuple(replace(role, delicate=True) for role in _DECODER_ROLES),
        two_ways={"use_bidirectional_attention": True, "is_causal": False},
        gguf=_GEMMA_GGUF,
        # Its windows reach both ways, and it has EmbeddingGemma's two Dense modules.
        gguf_two_ways=replace(
            _GEMMA_GGUF,
            architecture="gemma-embedding",
            shapes={
                **_GEMMA_GGUF.shapes,
                "dense_2.weight?": ("width", "dense_inner"),
                "dense_3.weight?": ("dense_inner", "width"),
            },
            dense=2,
        ),
    ),
    Family(
        "gte",
        architectures=("GteModel", "GteForMaskedLM"),
        layers="layers",
        roles=_DECODER_ROLES,
        token_table="embeddings.word_embeddings",
        heads=("lm_head.decoder.weight", "lm_head.decoder.bias"),
        positions=Positions.ROTARY,
        additive_mask=True,
        plain_attention=True,
        gated=True,
        fixed=_GTE_FIXED,
        gguf="llama.cpp has no graph for it: nomic-bert, the nearest, gates with SiLU where gte has GELU",
    ),
    Family(
        "nomic_bert",
        architectures=("NomicBertModel", "NomicBertForMaskedLM", "NomicBertForPreTraining"),
        layers="layers",
        roles=_DECODER_ROLES,
        token_table="embeddings.word_embeddings",
        heads=("cls.predictions.decoder.weight", "cls.predictions.decoder.bias", "cls.predictions.bias"),
        positions=Positions.ROTARY,
        additive_mask=True,
        plain_attention=True,
        gated=True,
        defaults=_NOMIC_DEFAULTS,
        fixed=_NOMIC_FIXED,
        gguf=_NOMIC_GGUF,
    ),
    Family(
        "eurobert",
        architectures=("EuroBertModel", "EuroBertForMaskedLM"),
        layers="layers",
        roles=_DECODER_ROLES,
        token_table="embed_tokens",
        heads=("lm_head.weight",),
        positions=Positions.ROTARY,
        additive_mask=True,
        gated=True,
        grouped_heads=True,
        final_norm="norm",
        gguf=_EUROBERT_GGUF,
    ),
)

# By `model_type` in config.json.
FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}


def family_of(config: Config) -> Family:
    """The family that a `config.json` declares.

    Raises:
        CheckpointError: the model type is absent or not supported.
    """
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    named = config.get("architectures") or model_type or "none named"
    architecture = named[0] if isinstance(named, list) and named else named
    raise CheckpointError(
        f"the architecture {architecture} (model_type {model_type!r}) is not supported",
        why="each family is converted by rules that were checked for it",
        fix=f"Supported model types: {', '.join(sorted(FAMILIES))}. To ask for another, open an issue "
        "with its name and its config.json (docs/families.md)",
    )
