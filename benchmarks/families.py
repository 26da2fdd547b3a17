"""Families by targets: every cell built and judged, or refused with the reason.

    python benchmarks/families.py                                # every shape below, with random weights
    python benchmarks/families.py llama qwen3 --target onnx-int8 # some cells; the others stay as they are
    python benchmarks/families.py --checkpoint gemma3-270m=FOLDER

A shape is a published one in little: two layers, random weights, and a tokenizer of the published kind, which
is trained here (benchmarks/small_tokenizers.py) or, with `--gemma FILE`, Gemma's own. Random weights show
that the graph is right and say little of what low bits cost; that is for `--checkpoint`, real weights.

Writes benchmarks/results/families.json and the table in docs/families.md.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import small_tokenizers
from results_file import made, write_result

if TYPE_CHECKING:
    from ringkas.checkpoint import Checkpoint
    from ringkas.export.build import Built

HERE = Path(__file__).resolve().parents[1]
RESULTS, PAGE = HERE / "benchmarks/results/families.json", HERE / "docs/families.md"
BEGIN, END = "<!-- measured -->\n", "<!-- /measured -->"
TARGETS = (
    "pytorch-fp32", "onnx-fp32", "onnx-fp16", "onnx-int8", "onnx-int4", "gguf-f32", "gguf-q8_0",
    "gguf-q4_k_m", "tensorrt-rtx-fp16", "tensorrt-rtx-int8",
)  # fmt: skip
# One alone and among longer ones: every family and pooling must give it the same vector.
TEXTS = ("a short one", "짧다", "one of more words than the others have, so that they are padded " * 3, "x")

MEAN, LAST, CLS = "pooling_mode_mean_tokens", "pooling_mode_lasttoken", "pooling_mode_cls_token"
SENTENCEPIECE_NAMES = {"pad_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
QWEN_NAMES = {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
GEMMA_NAMES = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}


@dataclass(frozen=True)
class Shape:
    """A published model in little.

    `tokenizer` makes its `tokenizer.json`, `names` are the tokens that tokenizer_config.json names, `dense`
    the widths after the pooling.
    """

    like: str
    config: Mapping[str, Any]
    tokenizer: str
    names: Mapping[str, str]
    pooling: str = MEAN
    dense: tuple[int, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    limit: int = 256


XLMR_NAMES = {
    "pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "cls_token": "<s>", "sep_token": "</s>",
    "unk_token": "<unk>", "mask_token": "<mask>",
}  # fmt: skip
BERT_NAMES = {
    "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}  # fmt: skip
ENCODER = {
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 512,
}  # fmt: skip
XLMR = {**ENCODER, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "type_vocab_size": 1}
DECODER = {
    "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "max_position_embeddings": 2048,
}  # fmt: skip
GEMMA = {
    **DECODER, "architectures": ["Gemma3TextModel"], "model_type": "gemma3_text", "num_key_value_heads": 1,
    "query_pre_attn_scalar": 64, "sliding_window": 64, "hidden_activation": "gelu_pytorch_tanh",
    "layer_types": ["sliding_attention", "full_attention"], "pad_token_id": 0, "bos_token_id": 2,
    "eos_token_id": 1,
}  # fmt: skip
_WEB = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"

SHAPES: Mapping[str, Shape] = {
    "bert": Shape(
        "multilingual-e5-small: a BERT with XLM-R's kind of tokenizer, mean",
        {**ENCODER, "architectures": ["BertModel"], "model_type": "bert", "type_vocab_size": 2,
         "pad_token_id": 0},
        "unigram", XLMR_NAMES, prompts={"query": "query: ", "passage": "passage: "},
    ),
    "xlm-roberta": Shape(
        "bge-m3, KURE-v1, arctic-embed-l-v2.0: first token, 8,192 positions",
        {**XLMR, "architectures": ["XLMRobertaModel"], "model_type": "xlm-roberta",
         "max_position_embeddings": 8194},
        "unigram", XLMR_NAMES, CLS,
    ),
    "roberta": Shape(
        "all-distilroberta-v1 and its kin: byte-level BPE, mean",
        {**XLMR, "architectures": ["RobertaModel"], "model_type": "roberta", "max_position_embeddings": 514},
        "roberta", XLMR_NAMES,
    ),
    "camembert": Shape(
        "sentence-camembert-base: mean",
        {**XLMR, "architectures": ["CamembertModel"], "model_type": "camembert",
         "max_position_embeddings": 514},
        "unigram", XLMR_NAMES,
    ),
    "distilbert": Shape(
        "distiluse-base-multilingual-cased: mean, a Dense module",
        {"dim": 256, "hidden_dim": 512, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 512,
         "architectures": ["DistilBertModel"], "model_type": "distilbert", "pad_token_id": 0,
         "hidden_size": 256},
        "wordpiece", BERT_NAMES, MEAN, (128,),
    ),
    "mpnet": Shape(
        "multi-qa-mpnet-base-dot-v1: relative positions, first token",
        {**XLMR, "architectures": ["MPNetModel"], "model_type": "mpnet", "max_position_embeddings": 514},
        "unigram", XLMR_NAMES, CLS,
    ),
    "gte": Shape(
        "gte-multilingual-base: rotary positions, gated, first token",
        {**ENCODER, "architectures": ["GteModel"], "model_type": "gte", "pad_token_id": 1,
         "type_vocab_size": 1, "hidden_act": "gelu"},
        "unigram", XLMR_NAMES, CLS,
    ),
    "nomic_bert": Shape(
        "nomic-embed-text-v1.5: rotary positions, gated, mean",
        {**ENCODER, "architectures": ["NomicBertModel"], "model_type": "nomic_bert", "pad_token_id": 0,
         "type_vocab_size": 2},
        "wordpiece", BERT_NAMES, prompts={"query": "search_query: ", "document": "search_document: "},
    ),
    "eurobert": Shape(
        "EuroBERT-210m as an embedder: RMSNorm, rotary positions, gated, mean",
        {**ENCODER, "architectures": ["EuroBertModel"], "model_type": "eurobert", "num_key_value_heads": 4,
         "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "mask_token_id": 4},
        "unigram", XLMR_NAMES,
    ),
    "modernbert": Shape(
        "SEA-LION-ModernBERT-Embedding, mmBERT: windows, Gemma's kind of tokenizer, mean",
        {**ENCODER, "architectures": ["ModernBertModel"], "model_type": "modernbert", "pad_token_id": 0,
         "bos_token_id": 2, "eos_token_id": 1, "cls_token_id": 2, "sep_token_id": 1, "local_attention": 64,
         "global_attn_every_n_layers": 2, "max_position_embeddings": 1024},
        "gemma", GEMMA_NAMES,
    ),
    "llama": Shape(
        "SeaLLM (Llama-2) as an embedder: causal, last token",
        {**DECODER, "architectures": ["LlamaModel"], "model_type": "llama", "num_key_value_heads": 4,
         "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
        "sentencepiece", SENTENCEPIECE_NAMES, LAST,
    ),
    "mistral": Shape(
        "e5-mistral-7b-instruct: causal, last token, a window that no text fills",
        {**DECODER, "architectures": ["MistralModel"], "model_type": "mistral", "sliding_window": 512,
         "rms_norm_eps": 1e-5, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
        "sentencepiece", SENTENCEPIECE_NAMES | {"pad_token": "</s>"}, LAST,
    ),
    "qwen3": Shape(
        "Qwen3-Embedding-0.6B: causal, last token, instructions",
        {**DECODER, "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_key_value_heads": 2,
         "rope_theta": 1000000, "sliding_window": None, "use_sliding_window": False, "bos_token_id": None,
         "eos_token_id": None, "pad_token_id": None, "tie_word_embeddings": True},
        "byte-level", QWEN_NAMES, LAST, prompts={"query": _WEB, "document": ""},
    ),
    "qwen3 two ways": Shape(
        "a Qwen3 with is_causal false: both ways, mean",
        {**DECODER, "architectures": ["Qwen3Model"], "model_type": "qwen3", "is_causal": False,
         "bos_token_id": None, "eos_token_id": None, "pad_token_id": None},
        "byte-level", QWEN_NAMES, MEAN,
    ),
    "gemma3_text": Shape(
        "harrier-oss-v1-270m: causal, last token", GEMMA, "gemma", GEMMA_NAMES, LAST
    ),
    "gemma3_text two ways": Shape(
        "EmbeddingGemma-300m: both ways, mean, two Dense modules",
        {**GEMMA, "use_bidirectional_attention": True}, "gemma", GEMMA_NAMES, MEAN, (768, 256),
        {"query": "task: search result | query: ", "document": "title: none | text: "},
    ),
}  # fmt: skip

DECODERS = tuple(name for name, one in SHAPES.items() if "head_dim" in one.config)

TOKENIZERS: dict[str, Callable[[], dict[str, Any]]] = {
    "sentencepiece": small_tokenizers.sentencepiece_bpe,
    "unigram": small_tokenizers.unigram,
    "wordpiece": small_tokenizers.wordpiece,
    "roberta": small_tokenizers.roberta_bpe,
    "byte-level": small_tokenizers.byte_level_bpe,
    "gemma": small_tokenizers.gemma_bpe,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shapes", nargs="*", help="some of: " + ", ".join(SHAPES))
    parser.add_argument("--target", action="append", help="some of: " + ", ".join(TARGETS))
    parser.add_argument("--checkpoint", action="append", default=[], help="NAME=FOLDER, real weights")
    parser.add_argument("--gemma", type=Path, help="Gemma's real tokenizer.json(.gz)")
    options = parser.parse_args()
    if options.gemma:
        TOKENIZERS["gemma"] = lambda: read_tokenizer(options.gemma)
    real = dict(one.split("=", 1) for one in options.checkpoint)
    rows: dict[str, Any] = json.loads(RESULTS.read_text("utf-8"))["rows"] if RESULTS.is_file() else {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.shapes or ([] if real else SHAPES):
            place = write_checkpoint(SHAPES[name], Path(folder) / name.replace(" ", "-"))
            about = {"like": SHAPES[name].like, "weights": "random"}
            update(rows, name, about, measure(place, options.target or TARGETS, Path(folder)))
        for name, place in real.items():
            about = {"like": name, "weights": "real"}
            for target in options.target or TARGETS:  # each is kept as it comes: real ones take their time
                update(rows, name, about, measure(Path(place), [target], Path(folder)))


def update(rows: dict[str, Any], name: str, about: Mapping[str, str], cells: Mapping[str, Any]) -> None:
    """Puts new cells into the row and writes all; what was measured before keeps its commit and date."""
    before = rows.get(name, {}).get("cells", {})
    rows[name] = {**about, "cells": {**before, **cells}}
    write_result(RESULTS, {"rows": rows})
    write_page(rows)


def measure(folder: Path, targets: Sequence[str], scratch: Path) -> dict[str, Any]:
    """Each target's cell: least and mean cosine over the languages, how alone differs from in company."""
    from ringkas import build_all, open_checkpoint
    from ringkas.errors import RingkasError

    checkpoint = open_checkpoint(folder)
    cells: dict[str, Any] = {}
    stamp = {key: made()[key] for key in ("commit", "date")}
    with tempfile.TemporaryDirectory(dir=scratch) as out:
        for target in targets:
            try:
                check(checkpoint, target)
            except RingkasError as error:
                cells[target] = {**stamp, "refused": " ".join(str(error).split())}
        left = [target for target in targets if target not in cells]
        for built in build_all(checkpoint, left, out) if left else ():
            cells[built.artifact.path.name] = {**stamp, **judged(built)}
    for target, cell in cells.items():
        print(f"{folder.name} {target}: {cell}", file=sys.stderr, flush=True)
    return cells


def check(checkpoint: Checkpoint, name: str) -> None:
    """Raises what `build` would before any work."""
    from ringkas.export.build import BuildOptions, require_engines
    from ringkas.export.finish import writer_of
    from ringkas.targets import target

    require_engines([target(name)])
    writer_of(target(name)).check(checkpoint, target(name), BuildOptions())


def judged(built: Built) -> dict[str, Any]:
    """What an artifact's report says, and a text alone beside the same among longer ones."""
    from ringkas import load
    from ringkas.targets import target

    report = built.report
    cell = {
        "passed": report.passed,
        "cosine_min": report.cosine_min,
        "cosine_mean": min(group.cosine_mean for group in report.groups),
        "texts": report.texts,
        "languages": len(report.groups),
        "failures": list(report.failures[:3]),
    }
    if target(built.artifact.manifest.target).format.plans:  # judged by an oracle: a plan needs its GPU
        return cell
    with load(built.artifact.path, allow_failed=True) as encoder:
        alone = np.stack([encoder.encode(text) for text in TEXTS])
        company = encoder.encode(list(TEXTS))
    return {**cell, "alone": float(least_cosine(alone, company))}


def least_cosine(one: Any, two: Any) -> Any:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return ((one * two).sum(1) / lengths).min()


def read_tokenizer(file: Path) -> dict[str, Any]:
    data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    document: dict[str, Any] = json.loads(data)
    return document


def write_checkpoint(shape: Shape, folder: Path) -> Path:
    """A sentence-transformers folder of the shape, its weights random for a fixed seed."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(20240607)
    document = TOKENIZERS[shape.tokenizer]()
    vocabulary = document["model"]["vocab"]  # of a Unigram a list, in the order of the ids
    ids = range(len(vocabulary)) if isinstance(vocabulary, list) else vocabulary.values()
    rows = 1 + max([*ids, *(one["id"] for one in document["added_tokens"])])
    stated = {**shape.config, "vocab_size": rows}
    own = {key: value for key, value in stated.items() if key != "model_type"}
    model = AutoModel.from_config(AutoConfig.for_model(stated["model_type"], **own)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # as initialised, norms do nothing
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    kinds = ["Transformer", "Pooling", *("Dense" for _ in shape.dense), "Normalize"]
    modules = [
        {"idx": at, "name": str(at), "path": f"{at}_{kind}" if at else "",
         "type": f"sentence_transformers.models.{kind}"}
        for at, kind in enumerate(kinds)
    ]  # fmt: skip
    width = int(shape.config["hidden_size"])
    files: dict[str, Any] = {
        "config.json": stated,
        "tokenizer.json": document,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.limit, **shape.names,
        },
        "modules.json": modules,
        "1_Pooling/config.json": {
            "word_embedding_dimension": width, **{mode: mode == shape.pooling for mode in (MEAN, LAST, CLS)},
        },
        "sentence_bert_config.json": {"max_seq_length": shape.limit, "do_lower_case": False},
        "config_sentence_transformers.json": {"prompts": dict(shape.prompts)},
    }  # fmt: skip
    for at, wide in enumerate(shape.dense, 2):
        files[f"{at}_Dense/config.json"] = {
            "in_features": width, "out_features": wide, "bias": False,
            "activation_function": "torch.nn.modules.linear.Identity",
        }  # fmt: skip
        (folder / f"{at}_Dense").mkdir()
        weights = {"linear.weight": torch.randn(wide, width) / width**0.5}
        save_file(weights, folder / f"{at}_Dense/model.safetensors")
        width = wide
    for name, value in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return folder


def write_page(rows: Mapping[str, Any]) -> None:
    """Puts the table between its marks in docs/families.md."""
    text = PAGE.read_text("utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    PAGE.write_text(text[:start] + table(rows) + text[end:], encoding="utf-8")


def table(rows: Mapping[str, Any]) -> str:
    """Least and mean cosine of each cell, the reasons of refusals below."""
    reasons: list[str] = []
    lines = ["| | " + " | ".join(TARGETS) + " |", "|---" * (1 + len(TARGETS)) + "|"]
    for name, row in rows.items():
        cells = [shown(row["cells"].get(target), reasons) for target in TARGETS]
        lines.append(f"| **{name}**<br>{row['like']}; {row['weights']} weights | " + " | ".join(cells) + " |")
    apart = [cell["alone"] for row in rows.values() for cell in row["cells"].values() if "alone" in cell]
    note = (
        f"Alone and among longer texts: the least cosine of all cells is {min(apart):.6f}.\n" if apart else ""
    )
    listed = "".join(f"{at}. {reason}\n" for at, reason in enumerate(reasons, 1))
    return "\n".join(lines) + "\n\n" + note + ("\nRefused:\n\n" + listed if listed else "")


def shown(cell: Mapping[str, Any] | None, reasons: list[str]) -> str:
    if cell is None:
        return "not measured"
    if "refused" in cell:
        if cell["refused"] not in reasons:
            reasons.append(cell["refused"])
        return f"refused ({reasons.index(cell['refused']) + 1})"
    figures = f"{cell['cosine_min']:.5f}<br>{cell['cosine_mean']:.5f}"
    return figures if cell["passed"] else f"{figures}<br>**falls short**"


if __name__ == "__main__":
    main()
