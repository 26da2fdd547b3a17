"""What differs between model families and between known checkpoints, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ringkas.errors import CheckpointError


@dataclass(frozen=True)
class Family:
    """One encoder architecture.

    Args:
        name: the `model_type`.
        architectures: the classes that a configuration may name.
        offset_positions: positions start at `pad_token_id + 1` (RoBERTa).
        gated: the feed-forward's activation multiplies a second product (a gate).
    """

    name: str
    architectures: tuple[str, ...]
    offset_positions: bool = False
    gated: bool = False

    def position_offset(self, config: Mapping[str, Any]) -> int:
        """The first position id of a text: rows before it in the position table are never used by text."""
        if not self.offset_positions:
            return 0
        pad_id = config.get("pad_token_id")
        return (1 if pad_id is None else int(pad_id)) + 1

    def max_positions(self, config: Mapping[str, Any]) -> int:
        """The longest sequence, in tokens, that the position table (or rotary range) allows."""
        return int(config["max_position_embeddings"]) - self.position_offset(config)


# By `model_type` in config.json.
FAMILIES: Mapping[str, Family] = {
    "bert": Family("bert", ("BertModel", "BertForMaskedLM")),
    "xlm-roberta": Family("xlm-roberta", ("XLMRobertaModel", "XLMRobertaForMaskedLM"), offset_positions=True),
    "modernbert": Family("modernbert", ("ModernBertModel", "ModernBertForMaskedLM"), gated=True),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family that a `config.json` declares.

    Raises:
        CheckpointError: the model type is absent or not supported.
    """
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in FAMILIES:
        return FAMILIES[model_type]
    named = config.get("architectures") or model_type or "none named"
    architecture = named[0] if isinstance(named, list) and named else named
    raise CheckpointError(
        f"the architecture {architecture} (model_type {model_type!r}) is not supported",
        why="each family is converted by rules that were checked for it",
        fix="Supported model types: " + ", ".join(sorted(FAMILIES)),
    )


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
