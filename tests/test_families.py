"""The tables: families, their position offsets, and what known checkpoints leave unsaid."""

from __future__ import annotations

from typing import Any

import pytest

from ringkas.errors import CheckpointError
from ringkas.families import FAMILIES, family_of
from ringkas.known import known
from ringkas.spec import EncodingSpec

# The eleven tasks of SEA-LION-E5-Embedding-600M's model card, written out.
ANSWER = (
    "Given a passage that is guaranteed to contain the answer, "
    "retrieve relevant passages that answer the query."
)
SEA_LION_CARD = {
    "STS": "Instruct: Retrieve semantically similar text.\nQuery: ",
    "PairClassification": "Instruct: Retrieve semantically similar text.\nQuery: ",
    "Reranking": "Instruct: Retrieve semantically similar text.\nQuery: ",
    "Clustering": "Instruct: Classify text into its appropriate category\nQuery: ",
    "Classification": "Instruct: Classify text into its appropriate category\nQuery: ",
    "Retrieval": f"Instruct: {ANSWER}\nQuery: ",
    "QARetrieval": f"Instruct: {ANSWER}\nQuery: ",
    "BitextMining": "Instruct: Retrieve parallel sentences.\nQuery: ",
    "InstructionRetrieval": "Instruct: Given a instruction and a output, "
    "retrieve the most relevant output that answer the instruction.\nQuery: ",
    "MultiLabelTextClassification": "Instruct: Classify the given text into its appropriate classes\nQuery: ",
    "Summarization": "Instruct: Summarize the given text.\nQuery: ",
}


@pytest.mark.parametrize(
    ("config", "offset", "longest"),
    [
        ({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}, 0, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 1}, 2, 512),
        ({"model_type": "xlm-roberta", "max_position_embeddings": 514, "pad_token_id": 0}, 1, 513),
        ({"model_type": "modernbert", "max_position_embeddings": 8192, "pad_token_id": 0}, 0, 8192),
    ],
)
def test_positions_start_where_the_family_says(config: dict[str, Any], offset: int, longest: int) -> None:
    family = family_of(config)
    assert family.position_offset(config) == offset
    assert family.max_positions(config) == longest


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"model_type": "t5", "architectures": ["T5EncoderModel"]}, "T5EncoderModel"),
        ({"model_type": "deberta-v2"}, "deberta-v2"),
        ({}, "none named"),
    ],
)
def test_unsupported_architecture_is_named_beside_the_supported(config: dict[str, Any], named: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        family_of(config)
    assert named in str(caught.value)
    assert all(name in caught.value.fix for name in FAMILIES)
    assert "open an issue" in caught.value.fix


def test_attention_goes_both_ways_where_the_configuration_says_so() -> None:
    gemma = FAMILIES["gemma3_text"]
    assert gemma.is_causal({})
    assert not gemma.is_causal({"use_bidirectional_attention": True})
    assert gemma.gguf_of({}) is gemma.gguf
    assert gemma.gguf_of({"use_bidirectional_attention": True}) is gemma.gguf_two_ways
    qwen = FAMILIES["qwen3"]
    assert not qwen.is_causal({"is_causal": False})
    assert qwen.gguf_of({"is_causal": False}) is qwen.gguf
    assert qwen.is_causal({"use_bidirectional_attention": True})  # a key that this one does not read
    assert not FAMILIES["bert"].is_causal({"is_causal": True})


def test_sea_lion_has_its_eleven_prompts() -> None:
    found = known("aisingapore/SEA-LION-E5-Embedding-600M")
    assert dict(found.prompts) == SEA_LION_CARD
    assert set(found.languages) == {"en", "zh", "th", "vi", "id", "ms", "fil", "my", "km", "lo", "ta"}


@pytest.mark.parametrize("name", ["intfloat/multilingual-e5-small", "Multilingual-E5-Base"])
def test_e5_has_its_two_prompts_under_any_owner_or_case(name: str) -> None:
    assert known(name).prompts == {"query": "query: ", "passage": "passage: "}


@pytest.mark.parametrize(
    ("name", "query", "document", "languages"),
    [
        ("BAAI/bge-m3", "", "", ()),
        ("nlpai-lab/KURE-v1", "", "", ("ko", "en")),
        ("Snowflake/snowflake-arctic-embed-l-v2.0", "query: ", "", ()),
        ("nomic-ai/nomic-embed-text-v1.5", "search_query: ", "search_document: ", ("en",)),
        ("sentence-transformers/all-mpnet-base-v2", "", "", ("en",)),
    ],
)
def test_a_published_checkpoint_has_its_cards_prompts(
    name: str, query: str, document: str, languages: tuple[str, ...]
) -> None:
    facts = known(name)
    spec = EncodingSpec("bert", 8, 8, prompts=dict(facts.prompts))
    assert spec.prompts.get(spec.query_prompt() or "", "") == query
    assert spec.prompts.get(spec.document_prompt() or "", "") == document
    assert facts.languages == languages
    assert facts.licence


def test_stranger_has_nothing() -> None:
    assert known("someone/else").prompts == {}
    assert known("someone/else").licence is None
