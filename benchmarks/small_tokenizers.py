"""Small tokenizers of the kinds that large models have, trained here on the built-in texts.

They stand in for vocabularies that are not at hand: the same parts in the same order, in few rows.
"""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from ringkas import texts

# By which Qwen2 and 3 split texts (tokenizer.json); Llama 3 has `\\p{N}{1,3}` in it.
QWEN_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def training_texts() -> list[str]:
    """The calibration texts of every language: none is among those that judge."""
    return [text for lines in texts.calibration().values() for text in lines]


def sentencepiece_bpe(size: int = 2000, *, ends: bool = True) -> dict[str, Any]:
    """Llama-2's kind: characters with byte fallback, a space put first, `<s>` and `</s>` around a text."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    # Merges stop at spaces in SentencePiece's training; the trained file has no pre-tokenizer.
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("\u2581"), "merged_with_next")
    tokenizer.train_from_iterator(
        training_texts(), trainers.BpeTrainer(vocab_size=size, special_tokens=pieces, show_progress=False)
    )
    after = [("</s>", 2)] if ends else []
    tokenizer.post_processor = processors.TemplateProcessing(
        single=" ".join(["<s>", "$A", *(token for token, _ in after)]), special_tokens=[("<s>", 1), *after]
    )
    tokenizer.decoder = decoders.Metaspace()
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    document["pre_tokenizer"] = None
    document["added_tokens"] = [token for token in document["added_tokens"] if token["id"] < 3]
    return document


def byte_level_bpe(size: int = 2000) -> dict[str, Any]:
    """Qwen's kind: bytes, NFC, split by Qwen's expression, `<|endoftext|>` after a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        training_texts(), trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]),
        ]
    )
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def roberta_bpe(size: int = 2000) -> dict[str, Any]:
    """RoBERTa's kind: bytes, GPT-2's expression, `<s>` and `</s>` around a text."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=special, show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    return document


def gemma_bpe(size: int = 2000) -> dict[str, Any]:
    """Gemma's kind: as Llama-2's without the space first, `<bos>` before and `<eos>` after a text."""
    document = sentencepiece_bpe(size)
    names = {"<unk>": "<pad>", "<s>": "<eos>", "</s>": "<bos>"}
    vocabulary = {names.get(token, token): id for token, id in document["model"]["vocab"].items()}
    document["model"] |= {"vocab": {**vocabulary, "<unk>": len(vocabulary)}, "unk_token": "<unk>"}
    document["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    document["added_tokens"] = [
        {"id": id, "content": token, **special}
        for token, id in (("<pad>", 0), ("<eos>", 1), ("<bos>", 2), ("<unk>", len(vocabulary)))
    ]
    document["post_processor"] = template("<bos> $A <eos>", {"<bos>": 2, "<eos>": 1})
    return document


def wordpiece(size: int = 2000) -> dict[str, Any]:
    """BERT's kind: lower case, words cut into the longest known pieces, `[CLS]` and `[SEP]` around a text."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.decoder = decoders.WordPiece()
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    document["post_processor"] = template("[CLS] $A [SEP]", {"[CLS]": 2, "[SEP]": 3})
    return document


def unigram(size: int = 4000) -> dict[str, Any]:
    """XLM-R's kind: NFKC, pieces with probabilities, `<s>` and `</s>` around a text."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    tokenizer.decoder = decoders.Metaspace()
    document: dict[str, Any] = json.loads(tokenizer.to_str())
    document["post_processor"] = template("<s> $A </s>", {"<s>": 0, "</s>": 2})
    return document


def template(single: str, ids: dict[str, int]) -> dict[str, Any]:
    """A post-processor: tokens around the text, which `single` calls $A."""
    parts = [
        {"Sequence": {"id": "A", "type_id": 0}}
        if part == "$A"
        else {"SpecialToken": {"id": part, "type_id": 0}}
        for part in single.split()
    ]
    tokens = {token: {"id": token, "ids": [id], "tokens": [token]} for token, id in ids.items()}
    pair = [*parts, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": parts, "pair": pair, "special_tokens": tokens}
