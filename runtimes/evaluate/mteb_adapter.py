"""An artifact as a model of the `mteb` package, which then evaluates it like any other, offline.

    import mteb
    from ringkas.runtimes.evaluate.mteb_adapter import MtebEncoder

    results = mteb.evaluate(MtebEncoder("dist/onnx-int8"), mteb.get_tasks(tasks=["STS12"]), cache=None)

`benchmarks/peers/mteb_offline.py` shows it at work on data in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ringkas.artifact import open_artifact
from ringkas.errors import RingkasError
from ringkas.runtimes.encoder import load
from ringkas.runtimes.engine import Vectors
from ringkas.spec import EncodingSpec

# What `mteb` calls the two sides of a retrieval task.
QUERY, DOCUMENT = "query", "document"


class MtebEncoder:
    """What `mteb` names an EncoderProtocol, version 2: vectors, similarities, and the model's metadata.

    Args:
        model_name: the artifact's folder; `mteb` calls its parameter so.
        revision: unused: the manifest knows it.
        device: `cpu` or `cuda`; None takes the best that is there.
        threads: how many threads one operator may use; None leaves it to the engine.
        allow_failed: evaluate an artifact whose parity fell short, too.
    """

    def __init__(
        self,
        model_name: str | Path,
        revision: str | None = None,
        *,
        device: str | None = None,
        threads: int | None = None,
        allow_failed: bool = False,
    ) -> None:
        self.artifact = open_artifact(model_name)
        self.encoder = load(self.artifact, threads=threads, device=device, allow_failed=allow_failed)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        prompt_type: Any = None,
        **_: Any,
    ) -> Vectors:
        """The vectors of all texts of `inputs`, batches with a list of strings named `text`: (n, dimension).

        Raises:
            RingkasError: the task has no text.
        """
        texts: list[str] = []
        for batch in inputs:
            if "text" not in batch:
                raise RingkasError(f"{task_metadata.name} has no text", why="an artifact encodes text alone")
            texts.extend(batch["text"])
        side = getattr(prompt_type, "value", prompt_type)
        name = prompt_name(self.encoder.spec, task_metadata.name, task_metadata.type, side)
        return self.encoder.encode(texts, prompt=name)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The cosine of each of the one with each of the other: a tensor of shape (n, m)."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """The cosine of each pair: a tensor of shape (n,)."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    @property
    def mteb_model_meta(self) -> Any:
        """Under which name `mteb` files the results: the source's, and the target."""
        from mteb.models import ModelMeta

        manifest = self.artifact.manifest
        return ModelMeta.create_empty(
            {
                "name": f"ringkas/{manifest.name}-{manifest.target}",
                "revision": manifest.source.revision or "none",
                "adapted_from": manifest.source.model,
                "max_tokens": manifest.encoding.max_length,
                "embed_dim": manifest.encoding.dimension,
                "similarity_fn_name": "cosine",
                "use_instructions": bool(manifest.encoding.prompts),
            }
        )


def prompt_name(spec: EncodingSpec, task: str, kind: str, side: str | None) -> str:
    """The prompt for a task: the task's own, that of its kind (`STS`, `Clustering`), then the side's.

    The order is mteb's, but that documents never get the prompt that a task or kind has for all its texts:
    instruction models put theirs before queries alone, as `ringkas evaluate` does. Empty for none.
    """
    if side == DOCUMENT:
        names = [f"{task}-{side}", f"{kind}-{side}", spec.document_prompt()]
    elif side == QUERY:
        names = [f"{task}-{side}", task, f"{kind}-{side}", kind, spec.query_prompt()]
    else:
        names = [task, kind, spec.query_prompt()]
    return next((name for name in names if name is not None and name in spec.prompts), "")
