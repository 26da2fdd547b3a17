"""The spec: which prompts `encode_query` and `encode_document` find, and the names of the pooling modes."""

from __future__ import annotations

import msgspec
import pytest

from ringkas.known import E5_PROMPTS, SEA_LION_PROMPTS
from ringkas.spec import POOLING_MODES, EncodingSpec, Pooling


def spec(prompts: dict[str, str]) -> EncodingSpec:
    return EncodingSpec(family="bert", max_length=512, dimension=384, prompts=prompts)


@pytest.mark.parametrize(
    ("prompts", "query", "document"),
    [
        ({}, None, None),
        (dict(E5_PROMPTS), "query", "passage"),
        (dict(SEA_LION_PROMPTS), "Retrieval", None),
        ({"Retrieval": "r", "query": "q"}, "query", None),
        ({"corpus": "c", "passage": "p", "document": "d"}, None, "document"),
        ({"corpus": "c", "passage": "p"}, None, "passage"),
        ({"corpus": "c"}, None, "corpus"),
        ({"query": "", "document": ""}, "query", "document"),
        ({"query": "", "Retrieval": "r", "document": "", "passage": "p"}, "Retrieval", "passage"),
    ],
)
def test_the_best_prompt_is_found(prompts: dict[str, str], query: str | None, document: str | None) -> None:
    assert spec(prompts).query_prompt() == query
    assert spec(prompts).document_prompt() == document


def test_modes_and_their_order_are_sentence_transformers_own() -> None:
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    assert modules.Pooling.POOLING_MODES == POOLING_MODES


def test_survives_a_round_trip_through_json() -> None:
    whole = EncodingSpec(
        "xlm-roberta", 512, 768, Pooling(("cls", "max"), False), False, 1, {"a": "b\n"}, "a", True
    )
    assert msgspec.json.decode(msgspec.json.encode(whole), type=EncodingSpec) == whole


def test_unknown_fields_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="surprise"):
        msgspec.json.decode(
            b'{"family": "bert", "max_length": 8, "dimension": 8, "surprise": 1}', type=EncodingSpec
        )
