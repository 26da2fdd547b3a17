"""Bulk embedding: streamed in, sharded out, resumed where it stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ringkas.runtimes.bulk.on_ray import embed_dataset

__all__ = ["embed_dataset"]


def __getattr__(name: str) -> Any:
    if name == "embed_dataset":  # Ray is imported by who asks for it
        from ringkas.runtimes.bulk.on_ray import embed_dataset

        return embed_dataset
    raise AttributeError(f"module 'ringkas.bulk' has no attribute {name!r}")
