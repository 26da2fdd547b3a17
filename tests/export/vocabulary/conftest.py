"""Small tokenizers trained in memory, and tiny checkpoints with random weights around them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ringkas import texts as text_sets
from ringkas.checkpoint import Checkpoint, open_checkpoint

Document = dict[str, Any]
MakeCheckpoint = Callable[..., Checkpoint]

SPECIALS = ["<s>", "<pad>", "</s>", "<unk>"]
_FAMILIES = {  # model type, architecture, names of the table and of two tensors that must pass unchanged
    "bert": ("bert", "BertModel"),
    "xlm-roberta": ("xlm-roberta", "XLMRobertaModel"),
    "modernbert": ("modernbert", "ModernBertModel"),
}


def corpus() -> list[str]:
    texts = text_sets.calibration(["en", "ko", "id", "th"])
    return [text for listed in texts.values() for text in listed] * 3


def _finish(tokenizer: Tokenizer, mask: str = "<mask>") -> Document:
    # As XLM-R: a mask token behind the whole vocabulary, with a flag of its own.
    from tokenizers import AddedToken

    tokenizer.add_special_tokens([AddedToken(mask, lstrip=True, special=True)])
    ids = {token: tokenizer.token_to_id(token) for token in SPECIALS}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B </s>",
        special_tokens=[("<s>", ids["<s>"]), ("</s>", ids["</s>"])],
    )
    document: Document = json.loads(tokenizer.to_str())
    return document


def unigram() -> Document:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=1200, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return _finish(tokenizer)


def wordpiece() -> Document:
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=SPECIALS, show_progress=False)
    tokenizer.train_from_iterator(corpus(), trainer)
    return _finish(tokenizer)


def byte_level_bpe() -> Document:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return _finish(tokenizer)


def byte_fallback_bpe() -> Document:
    """As Gemma: characters, spaces as a mark, bytes for what is not there, and every way to split a token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    trainer = trainers.BpeTrainer(
        vocab_size=1800,
        special_tokens=[*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator([word for text in corpus() for word in text.split()], trainer)
    document = _finish(tokenizer)
    document["added_tokens"] = [
        entry for entry in document["added_tokens"] if not entry["content"].startswith("<0x")
    ]
    vocabulary = document["model"]["vocab"]
    document["model"]["merges"] = [
        [token[:at], token[at:]]
        for token in sorted(vocabulary, key=vocabulary.__getitem__)
        if not token.startswith("<")
        for at in range(1, len(token))
        if token[:at] in vocabulary and token[at:] in vocabulary
    ]
    return document


SMALL: dict[str, Callable[[], Document]] = {
    "unigram": unigram,
    "wordpiece": wordpiece,
    "byte-level-bpe": byte_level_bpe,
    "byte-fallback-bpe": byte_fallback_bpe,
}


@pytest.fixture(scope="session")
def small_documents() -> dict[str, Document]:
    return {name: make() for name, make in SMALL.items()}


@pytest.fixture(scope="session", params=sorted(SMALL))
def document(request: pytest.FixtureRequest, small_documents: dict[str, Document]) -> Document:
    return small_documents[request.param]


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> MakeCheckpoint:
    """A tiny checkpoint with random weights around a tokenizer; extra rows as multilingual-e5-small has."""

    def make(
        document: Document,
        family: str = "bert",
        *,
        extra_rows: int = 35,
        plain: bool = False,
        shard: str = "5GB",
    ) -> Checkpoint:
        import torch
        from transformers import AutoConfig, AutoModel

        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp("random-weights")
        vocabulary = len(document["model"]["vocab"])
        ids = {entry["content"]: entry["id"] for entry in document["added_tokens"]}
        config = AutoConfig.for_model(
            _FAMILIES[family][0],
            vocab_size=vocabulary + 1 + extra_rows,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=130,
            pad_token_id=ids["<pad>"],
            bos_token_id=ids["<s>"],
            eos_token_id=ids["</s>"],
            **({"cls_token_id": ids["<s>"], "sep_token_id": ids["</s>"]} if family == "modernbert" else {}),
        )
        AutoModel.from_config(config).save_pretrained(folder, max_shard_size=shard)
        (folder / "tokenizer.json").write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        decoder = {str(entry["id"]): {"content": entry["content"]} for entry in document["added_tokens"]}
        tokenizer_config = {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 128, "pad_token": "<pad>",
            "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>",
            "added_tokens_decoder": decoder,
        }  # fmt: skip
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config), encoding="utf-8")
        if not plain:
            _sentence_transformers_files(folder)
        return open_checkpoint(folder)

    return make


def _sentence_transformers_files(folder: Path) -> None:
    kinds = ("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(kinds)
    ]
    for path, _ in kinds:
        (folder / path).mkdir(exist_ok=True)
    files = {
        "modules.json": modules,
        "1_Pooling/config.json": {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": {"query": "query: "}, "default_prompt_name": None},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
