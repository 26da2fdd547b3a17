"""Clients that people have, against a real server."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import ringkas
from ringkas.artifact import Artifact
from ringkas.runtimes.encoder import Encoder

pytestmark = [pytest.mark.clients, pytest.mark.filterwarnings("ignore")]
TEXTS = ["how do I reset my password?", "비밀번호 재설정", "a"]


@pytest.fixture(scope="module")
def encoder(served_artifact: Artifact) -> Iterator[Encoder]:
    with ringkas.load(served_artifact, threads=1) as opened:
        yield opened


def test_langchain(address: str, served_artifact: Artifact, encoder: Encoder) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="not installed: make clients")
    client = langchain.OpenAIEmbeddings(
        model=served_artifact.manifest.name, base_url=f"{address}/v1", api_key="none",
        check_embedding_ctx_length=False,
    )  # fmt: skip
    np.testing.assert_allclose(client.embed_documents(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(client.embed_query(TEXTS[0]), encoder.encode(TEXTS[0]), atol=1e-6)


def test_llama_index(address: str, served_artifact: Artifact, encoder: Encoder) -> None:
    embeddings = pytest.importorskip("llama_index.embeddings.openai", reason="not installed: make clients")
    client = embeddings.OpenAIEmbedding(
        model_name=served_artifact.manifest.name, api_base=f"{address}/v1", api_key="none"
    )
    np.testing.assert_allclose(client.get_text_embedding_batch(TEXTS), encoder.encode(TEXTS), atol=1e-6)
