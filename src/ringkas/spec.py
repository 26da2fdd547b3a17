"""How texts become vectors: the part that a checkpoint and every artifact made from it share."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

# The names of every graph's inputs and outputs.
INPUTS = ("input_ids", "attention_mask")
TOKEN_OUTPUT, SENTENCE_OUTPUT = "last_hidden_state", "sentence_embedding"

# sentence-transformers' names, in the order in which it concatenates several modes.
POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")

# The older form of 1_Pooling/config.json: one boolean a mode.
LEGACY_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "max": "pooling_mode_max_tokens",
    "mean": "pooling_mode_mean_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}

# The end of a long text that goes, and what `similarity_fn_name` may say: cosine where it says nothing.
Side = Literal["right", "left"]
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
SIMILARITIES: tuple[Similarity, ...] = get_args(Similarity)

# The prompts that `encode_query` and `encode_document` look for, best first (sentence-transformers' own
# names, then those of the E5 and SEA-LION families).
QUERY_PROMPTS = ("query", "Retrieval")
DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class Pooling(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Token vectors to one vector. Several modes are concatenated, as in sentence-transformers."""

    modes: tuple[str, ...] = ("mean",)
    include_prompt: bool = True


class EncodingSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything but the weights: pooling, normalisation, prompts and limits.

    `max_length` counts tokens, special tokens included; `truncation_side` is the end of a longer text that
    goes. `dimension` is the length of one vector, `similarity` how two are compared.
    """

    family: str
    max_length: int
    dimension: int
    pooling: Pooling = Pooling()
    normalize: bool = True
    pad_id: int = 0
    prompts: dict[str, str] = {}
    default_prompt_name: str | None = None
    lower_case: bool = False
    truncation_side: Side = "right"
    similarity: Similarity = "cosine"

    def query_prompt(self) -> str | None:
        """The name of the prompt that `encode_query` uses, or None."""
        return self._first(QUERY_PROMPTS)

    def document_prompt(self) -> str | None:
        """The name of the prompt that `encode_document` uses, or None."""
        return self._first(DOCUMENT_PROMPTS)

    def _first(self, names: tuple[str, ...]) -> str | None:
        # An empty one is a placeholder: sentence-transformers saves one for `query` and for `document`.
        there = [name for name in names if name in self.prompts]
        return next((name for name in there if self.prompts[name]), there[0] if there else None)
