"""What stands around `tokenizer.json` and changes its ids, resolved into it.

A folder's own library does not go by `tokenizer.json` alone: the tokenizer class that is declared builds its
normalizer from keys of `tokenizer_config.json`, and options of the call to the tokenizer may stand in
`sentence_bert_config.json`. Artifacts carry one resolved `tokenizer.json` and the general class, which adds
nothing to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ringkas.errors import CheckpointError
from ringkas.json_files import read_json
from ringkas.spec import Side

TOKENIZER_CONFIG = "tokenizer_config.json"
# sentence-transformers reads the first of these that is there and holds anything.
TRANSFORMER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)
# The class of transformers that takes tokenizer.json as it is, under every name that it has had.
GENERAL_CLASS = "PreTrainedTokenizerFast"
GENERAL_CLASSES = (GENERAL_CLASS, "TokenizersBackend")
# Classes that make their own BertNormalizer from three keys; for which model type transformers takes one
# where the folder names none.
_BERT_CLASSES = frozenset(
    f"{name}Tokenizer"
    for name in (
        "Bert", "DistilBert", "Electra", "MPNet", "MobileBert", "ConvBert", "Funnel", "LayoutLM",
        "LayoutLMv2", "Lxmert", "RetriBert", "Splinter", "SqueezeBert", "DPRQuestionEncoder",
        "DPRContextEncoder", "DPRReader",
    )
)  # fmt: skip
_CLASS_OF_TYPE = {
    "bert": "BertTokenizer",
    "distilbert": "BertTokenizer",
    "electra": "BertTokenizer",
    "nomic_bert": "BertTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "mpnet": "MPNetTokenizer",
}
# (key of tokenizer_config.json, field of BertNormalizer, what the classes take where the key is absent)
_BERT_KEYS = (
    ("do_lower_case", "lowercase", True),
    ("strip_accents", "strip_accents", None),
    ("tokenize_chinese_chars", "handle_chinese_chars", True),
)
SPECIAL_KEYS = ("unk_token", "sep_token", "pad_token", "cls_token", "mask_token", "bos_token", "eos_token")


def transformer_config(path: Path) -> tuple[Path, dict[str, Any]]:
    """The file that configures sentence-transformers' first module, and what it holds; {} without one."""
    for name in TRANSFORMER_CONFIGS:
        stated = read_object(path / name)
        if stated:
            return path / name, stated
    return path / TRANSFORMER_CONFIGS[0], {}


def tokenizer_config(path: Path) -> dict[str, Any]:
    """`tokenizer_config.json` with what sentence-transformers passes to the tokenizer over it."""
    stated = read_object(path / TOKENIZER_CONFIG)
    _, transformer = transformer_config(path)
    for name in ("tokenizer_args", "processor_kwargs"):
        over = transformer.get(name)
        if isinstance(over, Mapping):
            stated |= {key: value for key, value in over.items() if key not in _OF_THE_CALL}
    return stated


# Options that say where to look, not how to tokenise.
_OF_THE_CALL = (
    "trust_remote_code",
    "use_fast",
    "revision",
    "token",
    "cache_dir",
    "local_files_only",
    "subfolder",
)


def normalizer_settings(path: Path) -> dict[str, Any] | None:
    """Fields of BertNormalizer that the declared class sets itself; None where it takes tokenizer.json's."""
    stated = tokenizer_config(path)
    config = read_object(path / "config.json")
    named = stated.get("tokenizer_class") or config.get("tokenizer_class")
    named = named or _CLASS_OF_TYPE.get(str(config.get("model_type")))
    if str(named).removesuffix("Fast") not in _BERT_CLASSES:
        return None
    return {field: stated.get(key, absent) for key, field, absent in _BERT_KEYS}


def resolve(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """`tokenizer.json` of the folder `path` as the class that the folder declares uses it.

    Only a BertNormalizer is changed: what else a class builds anew is left to the witness.
    """
    normalizer, settings = document.get("normalizer"), normalizer_settings(path)
    if settings is None or not isinstance(normalizer, Mapping) or normalizer.get("type") != "BertNormalizer":
        return dict(document)
    return {**document, "normalizer": {**normalizer, **settings}}


def changes_tokenizer(path: Path) -> bool:
    """Whether `resolve` may change anything: the document need not be parsed otherwise."""
    return normalizer_settings(path) is not None


def truncation_side(path: Path, document: Mapping[str, Any]) -> Side:
    """`left` or `right`: what of a long text goes.

    Raises:
        CheckpointError: it is neither.
    """
    stated = tokenizer_config(path).get("truncation_side")
    truncation = document.get("truncation") or {}
    side = str(stated or truncation.get("direction") or "right").lower()
    if side == "right":
        return "right"
    if side == "left":
        return "left"
    raise CheckpointError(
        f"{path / TOKENIZER_CONFIG} sets truncation_side to {stated!r}", fix="It is left or right"
    )


def padding_side(path: Path, document: Mapping[str, Any]) -> str:
    """`left` or `right`, in lower case."""
    padding = document.get("padding") or {}
    return str(tokenizer_config(path).get("padding_side") or padding.get("direction") or "right").lower()


def declared_tokens(path: Path) -> dict[str, str]:
    """Tokens that files beside `tokenizer.json` name, each with the file that does."""
    found: dict[str, str] = {}
    for name in ("added_tokens.json", "special_tokens_map.json", TOKENIZER_CONFIG):
        stated = tokenizer_config(path) if name == TOKENIZER_CONFIG else read_object(path / name)
        if name == "added_tokens.json":
            named: Iterable[Any] = stated
        else:
            named = [stated.get(key) for key in SPECIAL_KEYS]
            for key in ("additional_special_tokens", "extra_special_tokens"):
                more = stated.get(key) or []
                named = [*named, *(more.values() if isinstance(more, Mapping) else more)]
            decoder = stated.get("added_tokens_decoder")
            named = [*named, *(decoder.values() if isinstance(decoder, Mapping) else [])]
        for token in named:
            content = token.get("content") if isinstance(token, Mapping) else token
            if isinstance(content, str) and content:
                found.setdefault(content, name)
    return found


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file; {} where there is none. Raises `CheckpointError` where it cannot be read."""
    return read_json(file, dict[str, Any], {})
