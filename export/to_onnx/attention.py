"""Attention as one operator, for graphs that are ONNX Runtime's alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ringkas.family import Family

if TYPE_CHECKING:
    from ringkas.runtimes.reference import Reference

_NAME = "ringkas_multi_head"


@contextmanager
def multi_head(reference: Reference, family: Family) -> Iterator[None]:
    """Makes `reference` export com.microsoft's MultiHeadAttention; other families keep plain products."""
    if not family.plain_attention:
        yield
        return
    from transformers import AttentionInterface

    AttentionInterface.register(_NAME, _multi_head_attention)
    config: Any = reference.encoder.config
    before = config._attn_implementation
    config._attn_implementation = _NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def _multi_head_attention(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, scaling: float, **_: Any
) -> Any:
    import torch

    if not torch.compiler.is_exporting():
        raise RuntimeError("this form of attention is for export only")
    batch, heads, length, width = query.shape
    flat = [part.transpose(1, 2).reshape(batch, length, heads * width) for part in (query, key, value)]
    # The reference's mask is additive and the same for all heads and queries: zero where a token counts.
    valid = (attention_mask[:, 0, 0, :] == 0).to(torch.int32)
    output = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention", [*flat, None, valid],
        attrs={"num_heads": heads, "scale": float(scaling)},
        dtype=query.dtype, shape=(batch, length, heads * width), version=1,
    )  # fmt: skip
    return output.reshape(batch, length, heads, width), None
