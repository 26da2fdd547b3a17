"""`roberta`: jhgan/ko-sroberta-multitask's shape, with random weights, through every format.

Its shape is that of its published config.json but for the depth: RobertaModel 768 wide, 12 heads, a WordPiece
vocabulary of 32,000, positions from pad_token_id + 1, 128 tokens, mean pooling, no normalisation. The
weights and the vocabulary here are made in the test.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ringkas import load, open_checkpoint
from ringkas.runtimes.parity.judge import cosine

TEXTS = ["한국어 문장을 벡터로 바꾼다", "a short one", "짧다", "the same words again and again and again"]


def word_piece() -> dict[str, Any]:
    """A WordPiece tokenizer in BERT's form whose special tokens have klue/roberta's names and places."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    letters = sorted({*string.ascii_lowercase, *string.digits, *"".join(TEXTS).replace(" ", ""), *".,'?!-"})
    vocabulary = ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]", *letters, *(f"##{one}" for one in letters)]
    tokenizer = Tokenizer(
        models.WordPiece({token: id for id, token in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)]
    )
    written: dict[str, Any] = json.loads(tokenizer.to_str())
    return written


@pytest.fixture(scope="module")
def sroberta(shapes: Any, make_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = shapes["xlm-roberta"](
        word_piece(), model_type="roberta", architectures=["RobertaModel"], num_hidden_layers=1,
        vocab_size=32_000, max_position_embeddings=514, type_vocab_size=1,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sroberta") / "ko-sroberta-multitask"
    changes = {"max_length": 128, "normalize": False}
    written: Path = make_checkpoint(folder, type(shape)(shape.config, shape.tokenizer, **changes))
    names = {"cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    file = written / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | names), encoding="utf-8")
    return written


TARGETS = ("pytorch-fp32", "onnx-fp32", "onnx-int8", "gguf-f32", "gguf-q8_0", "tensorrt-rtx-fp16")


@pytest.fixture(scope="module")
def dist(sroberta: Path, check_targets: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one build makes of it, of the targets whose packages are installed."""
    folder = tmp_path_factory.mktemp("dist")
    check_targets(open_checkpoint(sroberta), TARGETS, folder)
    return folder


@pytest.mark.parametrize("target", TARGETS)
def test_it_goes_all_the_way(target: str, dist: Path) -> None:
    if not (dist / target).is_dir():
        pytest.skip(f"nothing here makes {target}: make install-all")
    report = json.loads((dist / target / "parity.json").read_bytes())
    assert report["failures"] == []
    assert report["passed"]


def test_the_reference_is_sentence_transformers_own(sroberta: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from ringkas.runtimes.encoder import load_reference_encoder

    expected = SentenceTransformer(str(sroberta), device="cpu").encode(TEXTS)
    with load_reference_encoder(sroberta) as encoder:
        found = encoder.encode(TEXTS)
        alone = np.stack([encoder.encode(text) for text in TEXTS])
    assert cosine(expected, found).min() > 0.999999
    assert np.allclose(expected, found, atol=1e-4)
    assert cosine(alone, found).min() > 0.99999


def test_it_loads_as_what_it_was_built_as(dist: Path) -> None:
    with load(dist / "onnx-fp32", threads=1) as encoder:
        assert encoder.encode(["가" * 500]).shape == (1, 768)  # as long as 128 tokens allow
