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

_INSTRUCT_WEB_SEARCH = (
    "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
)
ARCTIC_PROMPTS = {"query": "query: "}  # a document gets none
# Under the names that `encode_query` and `encode_document` look for.
NOMIC_PROMPTS = {
    "query": "search_query: ",
    "document": "search_document: ",
    "clustering": "clustering: ",
    "classification": "classification: ",
}

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
    # Each from its model card. Where a card names a hundred languages none is listed: all that there are
    # texts for are judged.
    "multilingual-e5-large-instruct": Known({"query": _INSTRUCT_WEB_SEARCH}, licence="mit"),
    "all-mpnet-base-v2": Known(languages=("en",), licence="apache-2.0"),
    "ko-sroberta-multitask": Known(languages=("ko",)),
    "bge-m3": Known(licence="mit"),  # "no need to add instructions to the queries"
    "kure-v1": Known(languages=("ko", "en"), licence="mit"),
    "snowflake-arctic-embed-l-v2.0": Known(ARCTIC_PROMPTS, licence="apache-2.0"),
    "snowflake-arctic-embed-m-v2.0": Known(ARCTIC_PROMPTS, licence="apache-2.0"),
    "granite-embedding-english-r2": Known(languages=("en",), licence="apache-2.0"),
    "granite-embedding-small-english-r2": Known(languages=("en",), licence="apache-2.0"),
    "granite-embedding-97m-multilingual-r2": Known(licence="apache-2.0"),
    "granite-embedding-311m-multilingual-r2": Known(licence="apache-2.0"),
    "mmbert-small": Known(licence="mit"),
    "mmbert-base": Known(licence="mit"),
    "gte-multilingual-base": Known(licence="apache-2.0"),
    "nomic-embed-text-v1.5": Known(NOMIC_PROMPTS, ("en",), "apache-2.0"),
}


def known(source: str) -> Known:
    """The table's entry for a hub id or a folder's name; an empty one when there is none."""
    return KNOWN.get(source.rsplit("/", 1)[-1].lower(), Known())
