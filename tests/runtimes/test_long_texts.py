"""Long texts: windows against slices of the whole text's ids, and their mean against float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

import ringkas
from ringkas.artifact import Artifact
from ringkas.errors import TextError
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.long_texts import LONG_TEXTS, OVERLAP, LongTexts, RowMaker, encode_rows

LIMIT = 64
WORDS = ["how", "do", "I", "reset", "my", "password", "when", "the", "link", "has", "expired"]
TEXTS = ["short", " ".join(WORDS * 30), "", " ".join(WORDS * 4)]


@pytest.fixture(scope="module")
def artifact(small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    checkpoint = small_checkpoint(max_length=LIMIT, prompts={"query": "query: ", "passage": "passage: "})
    return ringkas.build(checkpoint, "onnx-fp32", tmp_path_factory.mktemp("long"))


@pytest.fixture(scope="module")
def encoder(artifact: Artifact) -> Encoder:
    return ringkas.load(artifact, threads=1)


@pytest.fixture(scope="module")
def whole(artifact: Artifact) -> Callable[[str], list[int]]:
    """The ids of a whole text, special tokens included."""
    tokenizer = Tokenizer.from_file(str(artifact.path / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: list(tokenizer.encode(text).ids)


def windows(ids: Sequence[int], head: int) -> list[list[int]]:
    """As stated in the guide: each with what stands before the text and the closing token, overlapping."""
    room = LIMIT - head - 1
    body, found, start = list(ids[head:-1]), [], 0
    while True:
        found.append([*ids[:head], *body[start : start + room], ids[-1]])
        if start + room >= len(body):
            return found
        start += room - OVERLAP


@pytest.mark.parametrize("prompt", ["", "query"])
def test_windows_are_slices_of_the_whole(
    prompt: str, encoder: Encoder, whole: Callable[[str], list[int]]
) -> None:
    prefix = encoder.spec.prompts[prompt] if prompt else ""
    head = encoder.tokenizer.prompt_length(prefix) if prompt else 1
    rows = RowMaker(encoder, prompt, "window").rows(TEXTS)
    expected = [
        [ids] if len(ids) <= LIMIT else windows(ids, head) for ids in (whole(prefix + text) for text in TEXTS)
    ]
    assert [list(row) for row in rows.ids] == [row for one in expected for row in one]
    assert rows.owners == [n for n, one in enumerate(expected) for _ in one]
    assert rows.long == sum(len(one) > 1 for one in expected)
    assert rows.long >= 1
    assert all(len(row) <= LIMIT for row in rows.ids)
    vectors, unweighted = encode_rows(encoder, rows), []
    for text, one, vector in zip(TEXTS, expected, vectors, strict=True):
        parts = encoder.encode_ids(one).astype(np.float64)
        mean = np.average(parts, axis=0, weights=[len(row) for row in one])
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6, err_msg=text)
        plain = parts.mean(axis=0)
        unweighted.append(np.abs(vector - plain / np.linalg.norm(plain)).max())
    assert max(unweighted) > 1e-5  # a mean without weights would be seen


def test_truncated_texts_are_the_facades(encoder: Encoder) -> None:
    rows = RowMaker(encoder, "query", "truncate").rows(TEXTS)
    np.testing.assert_allclose(encode_rows(encoder, rows), encoder.encode(TEXTS, prompt="query"), atol=1e-6)
    assert rows.owners is None
    assert rows.tokens == sum(map(len, rows.ids))


def test_an_error_names_the_text(encoder: Encoder) -> None:
    maker = RowMaker(encoder, None, "error")
    assert maker.rows(["short", ""]).long == 0
    with pytest.raises(TextError, match="text 1 has more than the model's 64 tokens"):
        maker.rows(TEXTS)


@pytest.mark.parametrize("policy", LONG_TEXTS)
def test_no_texts_have_no_rows(policy: LongTexts, encoder: Encoder) -> None:
    assert encode_rows(encoder, RowMaker(encoder, None, policy).rows([])).shape == (0, encoder.dimension)
