"""What the files of known checkpoints leave unsaid: prompts, languages, licences. A table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Known:
    """What a published checkpoint's files leave unsaid."""

    prompts: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] = ()
    licence: str | None = None


E5_PROMPTS = {"query": "query: ", "passage": "passage: "}

_RETRIEVE_ANSWER = (
    "Given a passage that is guaranteed to contain the answer, "
    "retrieve relevant passages that answer the query."
)
# The tasks on SEA-LION-E5-Embedding-600M's model card and the instruction of each.
_SEA_LION_TASKS = {
    "STS": "Retrieve semantically similar text.",
    "PairClassification": "Retrieve semantically similar text.",
    "Reranking": "Retrieve semantically similar text.",
    "Clustering": "Classify text into its appropriate category",
    "Classification": "Classify text into its appropriate category",
    "Retrieval": _RETRIEVE_ANSWER,
    "QARetrieval": _RETRIEVE_ANSWER,
    "BitextMining": "Retrieve parallel sentences.",
    "InstructionRetrieval": (
        "Given a instruction and a output, retrieve the most relevant output that answer the instruction."
    ),
    "MultiLabelTextClassification": "Classify the given text into its appropriate classes",
    "Summarization": "Summarize the given text.",
}
SEA_LION_PROMPTS = {task: f"Instruct: {text}\nQuery: " for task, text in _SEA_LION_TASKS.items()}
SEA_LION_LANGUAGES = ("en", "zh", "th", "vi", "id", "ms", "fil", "my", "km", "lo", "ta")

# By the last part of the hub id, in lower case; a local folder of that name counts as well.
KNOWN: Mapping[str, Known] = {
    "multilingual-e5-small": Known(E5_PROMPTS, licence="mit"),
    "multilingual-e5-base": Known(E5_PROMPTS, licence="mit"),
    "multilingual-e5-large": Known(E5_PROMPTS, licence="mit"),
    "multilingual-e5-small-ko": Known(E5_PROMPTS),
    "dragonkue-koen-e5-tiny": Known(E5_PROMPTS, languages=("ko", "en")),
    "sea-lion-e5-embedding-600m": Known(SEA_LION_PROMPTS, SEA_LION_LANGUAGES),
    # No prompts are published for these two: those of SEA-LION-E5 are not theirs.
    "sea-lion-modernbert-embedding-300m": Known(languages=SEA_LION_LANGUAGES),
    "sea-lion-modernbert-embedding-600m": Known(languages=SEA_LION_LANGUAGES),
}


def known(source: str) -> Known:
    """The table's entry for a hub id or a folder's name; an empty one when there is none."""
    return KNOWN.get(source.rsplit("/", 1)[-1].lower(), Known())
