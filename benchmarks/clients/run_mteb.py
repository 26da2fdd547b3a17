"""mteb's own wrapper, which chooses the prompt by what a task asks for."""

from __future__ import annotations

from functools import cache
from typing import Any

from ask import serve


@cache
def opened(folder: str) -> Any:
    import mteb

    return mteb.SentenceTransformerEncoderWrapper(folder, device="cpu")


def encode(request: dict[str, Any], verb: str, prompt: str, cases: list[dict[str, Any]]) -> Any:
    from datasets import Dataset
    from mteb import get_task
    from mteb.types import PromptType
    from torch.utils.data import DataLoader

    kinds = {"encode_query": PromptType.query, "encode_document": PromptType.document, "encode": None}
    task = get_task("NFCorpus" if verb != "encode" else "STSBenchmark").metadata
    batches = DataLoader(Dataset.from_dict({"text": [case["text"] for case in cases]}), batch_size=8)
    return opened(request["folder"]).encode(
        batches, task_metadata=task, hf_split="test", hf_subset="default", prompt_type=kinds[verb]
    )


if __name__ == "__main__":
    serve(encode, "mteb", "sentence-transformers")
