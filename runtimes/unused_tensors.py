"""Tensors of a checkpoint that its encoder does not use: said, or refused where they carry meaning."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Heads and caches: they stand over or beside the encoder, and a sentence embedding has no part in them.
_HEADS = re.compile(
    r"(^|\.)(pooler|cls|lm_head|classifier|score|qa_outputs|pre_classifier|seq_relationship|head|decoder|"
    r"position_ids|token_type_ids|inv_freq|embed_out)(\.|$)|_rotary_emb\."
)
# Parts that change what the encoder computes where the model that made them had them.
_MEANING = re.compile(
    r"adapter|lora_|\.lora|loha|lokr|ia3|relative|distance_embedding|prefix_|prompt_|rel_pos", re.I
)


def meaningful(names: Sequence[str]) -> list[str]:
    """Those of the unused tensors without which the encoder is another."""
    return sorted(name for name in names if _MEANING.search(name))


def remark_on(names: Sequence[str]) -> str | None:
    """What is to be said of unused tensors; None where all are heads, which is as usual."""
    others = sorted(name for name in names if not _HEADS.search(name))
    if not others:
        return None
    return (
        f"tensors that the encoder does not use were left out: {', '.join(others[:4])}, {len(others)} in all"
    )
