"""Sequences end to end instead of padded: what a GPU is fed, with everything captured once a bucket.

A batch travels as one row of tokens. Attention is kept within each text by the texts' bounds, every other
layer works token by token, and pooling sees the rows again. Nothing is spent on padding but what rounds a
batch up to its bucket (an eighth of the tokens at most), so that one captured graph serves many batches.

On the CPU the same steps run without a graph, and attention text by text: slow, and there for the tests.
"""

from __future__ import annotations

import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ringkas.errors import CheckpointError
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.packing import Bucket, pack
from ringkas.runtimes.reference import Reference
from ringkas.tokens import TokenBatch

ATTENTION = "ringkas_packed"
_cuda: Any = torch.cuda

# Captured graphs that are kept; each also keeps its own inputs, and all share one pool of activations.
_MOST_GRAPHS = 64
_WARM_UP_RUNS = 3


@dataclass(frozen=True)
class Bounds:
    """Where texts begin and end, for attention: int32 of shape (texts + 1,) on the device."""

    on_device: Tensor
    longest: int


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **given: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: (1, heads, tokens, size) to (1, tokens, heads, size).

    Raises:
        CheckpointError: the model bends attention in a way that is not written here.
    """
    bounds, scaling, window = (given.get(name) for name in ("bounds", "scaling", "sliding_window"))
    bent = [name for name in ("softcap", "position_bias", "s_aux") if given.get(name) is not None]
    if bounds is None or attention_mask is not None or bent:
        raise CheckpointError(
            "this model's attention cannot be packed",
            why=f"it has {', '.join(bent)}" if bent else "it hands no bounds, or a mask, to its layers",
            fix="Load it in float32, which pads",
        )
    heads = [states[0].transpose(0, 1) for states in (query, key, value)]
    options: dict[str, Any] = {}
    if scaling is not None and abs(scaling * query.shape[-1] ** 0.5 - 1) > 1e-6:
        options["scale"] = scaling
    if heads[0].shape[1] != heads[1].shape[1]:
        options["enable_gqa"] = True
    causal = bool(getattr(module, "is_causal", False))
    if causal or window is not None:
        side = -1 if window is None else window - 1  # transformers counts the token itself
        options["window_size"] = (side, 0 if causal else side)
    attention = _varlen if query.is_cuda else _text_by_text
    return attention(heads, bounds, options)[None], None


def _varlen(heads: list[Tensor], bounds: Bounds, options: dict[str, Any]) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (states.contiguous() for states in heads)
    ends, longest = bounds.on_device, bounds.longest
    found = varlen_attn(query, key, value, ends, ends, longest, longest, **options)
    assert isinstance(found, Tensor)
    return found


def _text_by_text(heads: list[Tensor], bounds: Bounds, options: dict[str, Any]) -> Tensor:
    """What varlen_attn computes, in as many calls as there are texts."""
    out = torch.zeros_like(heads[0])
    behind, ahead = options.get("window_size", (-1, -1))
    ends = bounds.on_device.tolist()
    for start, end in pairwise(ends):
        if start == end:
            continue
        place = torch.arange(end - start)
        distance = place[None, :] - place[:, None]
        seen = torch.ones_like(distance, dtype=torch.bool)
        if behind >= 0:
            seen &= distance >= -behind
        if ahead >= 0:
            seen &= distance <= ahead
        one_query, one_key, one_value = (states[start:end].transpose(0, 1)[None] for states in heads)
        found = torch.nn.functional.scaled_dot_product_attention(
            one_query,
            one_key,
            one_value,
            attn_mask=seen,
            scale=options.get("scale"),
            enable_gqa=options.get("enable_gqa", False),
        )
        out[start:end] = found[0].transpose(0, 1)
    return out


def register() -> None:
    """Makes `ATTENTION` known to transformers. No mask goes with that name, so none is ever made."""
    from transformers import AttentionInterface

    AttentionInterface.register(ATTENTION, attend)


class PackedRunner:
    """Runs packed batches on one device, one captured graph a bucket where there is CUDA.

    Safe for several threads: what they put on the device stands in one queue.

    Args:
        reference: loaded with the attention `ATTENTION`, on the device.
        first_position: the position id of a text's first token.
        capture: whether graphs are captured; they cannot be on a CPU.
    """

    def __init__(self, reference: Reference, first_position: int, *, capture: bool = True) -> None:
        self._reference = reference
        self._first_position = first_position
        self._device = next(reference.parameters()).device
        self._capture = capture and self._device.type == "cuda"
        self._takes_types = "token_type_ids" in inspect.signature(reference.encoder.forward).parameters
        self._buckets: OrderedDict[Bucket, _Captured] = OrderedDict()
        self._pool: Any = None
        self._lock = Lock()

    def start(self, batch: TokenBatch) -> Callable[[], Vectors]:
        """Puts a batch on the device's queue; what is returned waits for its vectors."""
        packed = pack(batch, self._first_position)
        bucket = packed.bucket
        row = torch.from_numpy(packed.filled(bucket))
        texts = len(packed.bounds) - 1
        with self._lock, torch.inference_mode():
            if self._device.type != "cuda":
                vectors = self._step(row, bucket)[1][:texts]
                return lambda: np.asarray(vectors.numpy())
            return self._enqueue(row.pin_memory(), bucket, texts)

    def token_vectors(self, batch: TokenBatch) -> Vectors:
        """Float32 of shape (batch, sequence, hidden); zeros where there is padding."""
        packed = pack(batch, self._first_position)
        bucket = packed.bucket
        rows, length = batch.input_ids.shape
        with self._lock, torch.inference_mode():
            hidden, _, mask = self._step(torch.from_numpy(packed.filled(bucket)).to(self._device), bucket)
            hidden = (hidden * mask[..., None])[:rows, :length].cpu()
        out = np.zeros((rows, length, hidden.shape[-1]), dtype=np.float32)
        out[batch.attention_mask.astype(bool)] = hidden.numpy()[
            mask[:rows, :length].cpu().numpy().astype(bool)
        ]
        return out

    def _enqueue(self, row: Tensor, bucket: Bucket, texts: int) -> Callable[[], Vectors]:
        captured = self._captured(bucket)
        captured.row.copy_(row, non_blocking=True)
        captured.replay()
        host = torch.empty((texts, captured.vectors.shape[1]), dtype=torch.float32, pin_memory=True)
        host.copy_(captured.vectors[:texts], non_blocking=True)
        done = _cuda.Event()
        done.record()

        def wait() -> Vectors:
            done.synchronize()
            return np.array(host.numpy())

        return wait

    def _captured(self, bucket: Bucket) -> _Captured:
        if bucket in self._buckets:
            self._buckets.move_to_end(bucket)
            return self._buckets[bucket]
        if len(self._buckets) >= _MOST_GRAPHS:
            self._buckets.popitem(last=False)
        row = torch.zeros(2 * bucket.tokens + bucket.texts + 1, dtype=torch.int32, device=self._device)
        row[2 * bucket.tokens + 1 :] = min(bucket.tokens, bucket.longest)  # one text, so that all is run
        captured = (
            self._graph(row, bucket) if self._capture else _Captured(row, lambda: self._step(row, bucket))
        )
        self._buckets[bucket] = captured
        return captured

    def _graph(self, row: Tensor, bucket: Bucket) -> _Captured:
        """Captures the bucket's step. Where that fails the layers are launched, to the same vectors."""
        plain = _Captured(row, lambda: self._step(row, bucket))
        beside = _cuda.Stream()
        beside.wait_stream(_cuda.current_stream())
        with _cuda.stream(beside):
            for _ in range(_WARM_UP_RUNS):
                plain.replay()
        _cuda.current_stream().wait_stream(beside)
        graph = _cuda.CUDAGraph()
        try:
            with _cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                _, vectors, _ = self._step(row, bucket)
        except RuntimeError as error:
            self._capture = False
            _cuda.synchronize()
            warnings.warn(
                f"no CUDA graph could be captured, so that every layer is launched: {error}", stacklevel=2
            )
            return plain
        self._pool = graph.pool()
        return _Captured(row, graph.replay, vectors)

    def _step(self, row: Tensor, bucket: Bucket) -> tuple[Tensor, Tensor, Tensor]:
        """(hidden states by text, vectors, mask) of a filled row; every size in it comes from `bucket`."""
        ids, positions, ends = torch.split(row, [bucket.tokens, bucket.tokens, bucket.texts + 1])
        inputs: dict[str, Any] = {"input_ids": ids[None], "position_ids": positions[None].long()}
        if self._takes_types:
            inputs["token_type_ids"] = torch.zeros_like(ids)[None]
        hidden = self._reference.encoder(**inputs, bounds=Bounds(ends, bucket.longest)).last_hidden_state[0]
        offsets = torch.arange(bucket.longest, device=row.device, dtype=torch.int32)
        mask = offsets < (ends[1:] - ends[:-1])[:, None]
        # Tokens of no text may hold anything, so a place that is masked reads the first token, which is one.
        places = torch.where(mask, ends[:-1, None] + offsets, 0)
        by_text = hidden[places].float()
        return by_text, self._reference.pooled(by_text, mask.to(torch.int32)), mask


class _Captured:
    """A bucket's inputs, and what runs on them: a graph, or the layers one by one."""

    def __init__(self, row: Tensor, run: Callable[[], Any], vectors: Tensor | None = None) -> None:
        self.row = row
        self._run = run
        self._vectors = vectors

    @property
    def vectors(self) -> Tensor:
        assert self._vectors is not None
        return self._vectors

    def replay(self) -> None:
        result = self._run()
        if result is not None:
            self._vectors = result[1]
