"""What llama.cpp calls each family and each of its tensors, as tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError, TargetError
from ringkas.runtimes.engines.llama_check import POOLING_NUMBERS

_BERT_TENSORS = {
    r"embeddings\.word_embeddings\.weight": "token_embd.weight",
    r"embeddings\.position_embeddings\.weight": "position_embd.weight",
    r"embeddings\.token_type_embeddings\.weight": "token_types.weight",
    r"embeddings\.LayerNorm\.(weight|bias)": r"token_embd_norm.\1",
    r"encoder\.layer\.(\d+)\.attention\.self\.query\.(weight|bias)": r"blk.\1.attn_q.\2",
    r"encoder\.layer\.(\d+)\.attention\.self\.key\.(weight|bias)": r"blk.\1.attn_k.\2",
    r"encoder\.layer\.(\d+)\.attention\.self\.value\.(weight|bias)": r"blk.\1.attn_v.\2",
    r"encoder\.layer\.(\d+)\.attention\.output\.dense\.(weight|bias)": r"blk.\1.attn_output.\2",
    r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.(weight|bias)": r"blk.\1.attn_output_norm.\2",
    r"encoder\.layer\.(\d+)\.intermediate\.dense\.(weight|bias)": r"blk.\1.ffn_up.\2",
    r"encoder\.layer\.(\d+)\.output\.dense\.(weight|bias)": r"blk.\1.ffn_down.\2",
    r"encoder\.layer\.(\d+)\.output\.LayerNorm\.(weight|bias)": r"blk.\1.layer_output_norm.\2",
}
_MODERN_BERT_TENSORS = {
    r"embeddings\.tok_embeddings\.weight": "token_embd.weight",
    r"embeddings\.norm\.weight": "token_embd_norm.weight",
    r"layers\.(\d+)\.attn_norm\.weight": r"blk.\1.attn_norm.weight",
    r"layers\.(\d+)\.attn\.Wqkv\.weight": r"blk.\1.attn_qkv.weight",
    r"layers\.(\d+)\.attn\.Wo\.weight": r"blk.\1.attn_output.weight",
    r"layers\.(\d+)\.mlp_norm\.weight": r"blk.\1.ffn_norm.weight",
    r"layers\.(\d+)\.mlp\.Wi\.weight": r"blk.\1.ffn_up.weight",
    r"layers\.(\d+)\.mlp\.Wo\.weight": r"blk.\1.ffn_down.weight",
    r"final_norm\.weight": "output_norm.weight",
}

# llama.cpp's BERT graph has the tanh form of GELU and nothing else; the two differ by less than 5e-4.
_GELU = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_python")


@dataclass(frozen=True)
class Architecture:
    """One family as llama.cpp knows it.

    `tensors` maps transformers' names (patterns) to GGUF names; `required` are the values that config keys
    must have, because the graph has nothing else; `norm_epsilon` is a config key and transformers' default.
    """

    name: str
    tensors: Mapping[str, str]
    required: Mapping[str, tuple[Any, ...]]
    norm_epsilon: tuple[str, float]
    rotary: bool = False

    def gguf_name(self, name: str) -> str:
        """The GGUF name of transformers' tensor `name`.

        Raises:
            CheckpointError: llama.cpp has no place for it.
        """
        for pattern, template in self.tensors.items():
            match = re.fullmatch(pattern, name)
            if match:
                return match.expand(template)
        raise CheckpointError(
            f"the tensor {name} has no place in llama.cpp's {self.name} graph",
            why="leaving it out would change the vectors without a word",
            fix="Use an ONNX target",
        )


_BERT = Architecture(
    "bert",
    _BERT_TENSORS,
    {"hidden_act": _GELU, "position_embedding_type": ("absolute", None), "is_decoder": (False, None)},
    ("layer_norm_eps", 1e-12),
)
_MODERN_BERT = Architecture(
    "modern-bert",
    _MODERN_BERT_TENSORS,
    {
        "hidden_activation": ("gelu", "silu", None),
        "norm_bias": (False, None),
        "attention_bias": (False, None),
        "mlp_bias": (False, None),
    },
    ("norm_eps", 1e-5),
    rotary=True,
)

# By family. XLM-R is a BERT whose position table starts at another row (Family.position_offset).
ARCHITECTURES: Mapping[str, Architecture] = {
    "bert": _BERT,
    "xlm-roberta": _BERT,
    "modernbert": _MODERN_BERT,
}


def architecture_of(checkpoint: Checkpoint) -> Architecture:
    """The architecture of `checkpoint`, after checking that llama.cpp's graph computes the same.

    Raises:
        TargetError: it cannot.
    """
    architecture = ARCHITECTURES[checkpoint.family.name]
    for problem in _differences(checkpoint, architecture):
        raise TargetError(
            f"{checkpoint.name} cannot become a GGUF file: {problem}",
            why=f"llama.cpp's {architecture.name} graph has no such thing, and its vectors would differ",
            fix="Use an ONNX target",
        )
    return architecture


def _differences(checkpoint: Checkpoint, architecture: Architecture) -> Iterable[str]:
    for key, allowed in architecture.required.items():
        if checkpoint.config.get(key) not in allowed:
            yield f"its config.json has {key} = {checkpoint.config.get(key)!r}"
    if checkpoint.spec.pooling.modes not in POOLING_NUMBERS:
        yield f"it pools by {'+'.join(checkpoint.spec.pooling.modes)}"
    if checkpoint.dense:
        yield "it has a Dense layer after the pooling"
