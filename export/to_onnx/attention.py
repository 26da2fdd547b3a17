"""Attention as one operator, for graphs that are ONNX Runtime's alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ringkas.family import Family

if TYPE_CHECKING:
    from ringkas.runtimes.reference import Reference

_NAME = "ringkas_multi_head"


@contextmanager
def multi_head(reference: Reference, family: Family) -> Iterator[None]:
    """Makes `reference` export com.microsoft's MultiHeadAttention; other families keep plain products."""
    if family.biased_attention:
        with _biased(reference, family):
            yield
        return
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
    batch, heads, length, width = query.shape
    flat = [part.transpose(1, 2).reshape(batch, length, heads * width) for part in (query, key, value)]
    attrs = {"num_heads": heads, "scale": float(scaling)}
    return _operator(flat, attention_mask, attrs).reshape(batch, length, heads, width), None


@contextmanager
def looked_up_bias(reference: Reference, family: Family) -> Iterator[None]:
    """Makes `reference` look up the bucket of each relative position, which transformers computes.

    The borders between buckets are powers of two, where a logarithm that is off by its last bit falls on the
    other side: no two runtimes need agree. And the bias is made once, not once a text.
    """
    if not family.biased_attention:
        yield
        return
    import torch

    encoder: Any = reference.encoder
    (owner,) = (module for module in encoder.modules() if hasattr(module, "relative_attention_bias"))
    longest = encoder.config.max_position_embeddings
    buckets = owner.relative_position_bucket(torch.arange(1 - longest, longest))
    owner.register_buffer("buckets", buckets, persistent=False)
    owner.compute_position_bias = partial(_position_bias, owner, longest)
    try:
        yield
    finally:
        del owner.compute_position_bias, owner.buckets


def _position_bias(owner: Any, longest: int, states: Any) -> Any:
    """Float (1, heads, sequence, sequence), the bias of each key for each query."""
    import torch

    places = torch.arange(states.shape[1], device=states.device)
    distances = places[None, :] - places[:, None]
    return owner.relative_attention_bias(owner.buckets[distances + (longest - 1)]).permute(2, 0, 1)[None]


@contextmanager
def _biased(reference: Reference, family: Family) -> Iterator[None]:
    """The modules that compute attention by themselves are handed another `forward` while this lasts."""
    layers: Any = reference.encoder.get_submodule(family.layers)
    modules = [layer.get_submodule(family.biased_attention) for layer in layers]
    for module in modules:
        module.forward = partial(_biased_attention, module)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def _biased_attention(module: Any, states: Any, attention_mask: Any, position_bias: Any, **_: Any) -> Any:
    attrs = {"num_heads": module.num_attention_heads, "scale": module.attention_head_size**-0.5}
    flat = [module.q(states), module.k(states), module.v(states)]
    return (module.o(_operator(flat, attention_mask, attrs, position_bias)),)


def _operator(flat: list[Any], attention_mask: Any, attrs: dict[str, Any], *bias: Any) -> Any:
    """MultiHeadAttention of queries, keys and values of shape (batch, sequence, heads * width)."""
    import torch

    if not torch.compiler.is_exporting():
        raise RuntimeError("this form of attention is for export only")
    # The reference's mask is additive and the same for all heads and queries: zero where a token counts.
    valid = (attention_mask[:, 0, 0, :] == 0).to(torch.int32)
    return torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention", [*flat, None, valid, *bias],
        attrs=attrs, dtype=flat[0].dtype, shape=flat[0].shape, version=1,
    )  # fmt: skip
