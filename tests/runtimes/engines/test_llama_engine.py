"""The llama.cpp engine: ids in, vectors out; what it refuses; what it does with strings and over HTTP."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ringkas import texts as text_sets
from ringkas.artifact import Artifact, Manifest, Source
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.errors import ArtifactError
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.parity.judge import cosine
from ringkas.runtimes.pooling import pool
from ringkas.spec import EncodingSpec
from ringkas.tokens import TextTokenizer, pad

pytest.importorskip("gguf", reason="gguf is not installed: pip install 'ringkas[gguf]'")
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed: pip install 'ringkas[gguf]'")

from llama_strings import compare_strings, llama_tokens

from ringkas.export.to_gguf import write_gguf
from ringkas.runtimes.engines import llama_engine
from ringkas.runtimes.engines.llama_engine import LlamaEngine, open_engine
from ringkas.runtimes.engines.llama_header import read_header


def artifact_of(folder: Path, spec: EncodingSpec, model_file: str, precision: str = "fp32") -> Artifact:
    manifest = Manifest(
        name="x",
        target="gguf-f32",
        engine="llama.cpp",
        precision=precision,
        source=Source("x"),
        encoding=spec,
        model_file=model_file,
    )
    return Artifact(folder, manifest)


@pytest.fixture(scope="module")
def demo() -> Checkpoint:
    return open_checkpoint("demo")


@pytest.fixture(scope="module")
def artifact(demo: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("llama")
    (folder / "tokenizer.json").write_bytes((demo.path / "tokenizer.json").read_bytes())
    return artifact_of(folder, demo.spec, write_gguf(demo, "gguf-f16", folder).model_file)


@pytest.fixture(scope="module")
def encoder(artifact: Artifact, demo: Checkpoint) -> Encoder:
    return Encoder(demo.spec, TextTokenizer(demo.path, demo.spec), open_engine(artifact, 1, None))


@pytest.fixture(scope="module")
def sample() -> list[str]:
    return [line for lines in text_sets.probe(("en",)).values() for line in lines][::2]


def test_a_batch_equals_its_rows(encoder: Encoder, sample: list[str]) -> None:
    together, alone = together_and_alone(encoder, sample)
    np.testing.assert_allclose(together, alone, atol=2e-3)
    assert cosine(together, alone).min() > 0.99999


def together_and_alone(encoder: Encoder, sample: Sequence[str]) -> tuple[Vectors, Vectors]:
    """Each text's vector among the others, and by itself."""
    return encoder.encode(sample), np.stack([encoder.encode(text) for text in sample])


def least_apart(artifact: Artifact, demo: Checkpoint, sample: Sequence[str]) -> float:
    """The least cosine of a text alone with the same among the others."""
    with Encoder(demo.spec, TextTokenizer(demo.path, demo.spec), open_engine(artifact, 1, None)) as encoder:
        return float(cosine(*together_and_alone(encoder, sample)).min())


def test_in_8_bits_a_text_is_the_same_in_company(
    demo: Checkpoint, sample: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_gguf(demo, "gguf-q8_0", tmp_path).model_file
    artifact = artifact_of(tmp_path, demo.spec, file, "q8_0")
    assert least_apart(artifact, demo, sample) > 0.999999
    monkeypatch.setitem(llama_engine._TOKENS_TOGETHER, "q8_0", 256)
    assert least_apart(artifact, demo, sample) < 0.9999


def test_bulk_asks_no_more_of_llama_than_one_by_one(
    artifact: Artifact, demo: Checkpoint, sample: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither more tokens, as padding would be, nor more calls, nor a context for each."""
    calls: list[tuple[Any, int]] = []
    decode = llama_engine._Context.decode

    def noted(context: Any, rows: Any) -> int:
        calls.append((context, sum(map(len, rows))))
        return decode(context, rows)

    monkeypatch.setattr(llama_engine._Context, "decode", noted)
    with Encoder(demo.spec, TextTokenizer(demo.path, demo.spec), open_engine(artifact, 1, None)) as fresh:
        fresh.encode(sample)
        bulk = calls.copy()
        for text in sample:
            fresh.encode(text)
    one_by_one = calls[len(bulk) :]
    assert len({context for context, _ in bulk}) == 1
    assert sum(tokens for _, tokens in bulk) == sum(tokens for _, tokens in one_by_one)
    assert len(bulk) <= len(one_by_one) == len(sample)


def test_threads_may_share_it(encoder: Encoder, sample: list[str]) -> None:
    expected = encoder.encode(sample)
    with ThreadPoolExecutor(4) as workers:
        found = list(workers.map(lambda _: encoder.encode(sample), range(8)))
    assert all(np.array_equal(one, expected) for one in found)


def test_threads_are_honoured(artifact: Artifact, encoder: Encoder) -> None:
    for threads in (1, 2):
        with LlamaEngine(artifact, threads) as engine:
            engine.run(pad([[101, 7592, 102]], 0))
            llama, _ = engine.bindings()
            context = engine._contexts[1]._context
            assert (llama.llama_n_threads(context), llama.llama_n_threads_batch(context)) == (
                threads,
                threads,
            )


def test_normalisation_is_as_the_manifest_says(artifact: Artifact, encoder: Encoder) -> None:
    spec = msgspec.structs.replace(artifact.manifest.encoding, normalize=False)
    batch = pad([[101, 7592, 102]], 0)
    with LlamaEngine(artifact_of(artifact.path, spec, artifact.manifest.model_file), 1) as engine:
        raw = engine.run(batch)
    assert np.linalg.norm(raw) > 1.5
    np.testing.assert_allclose(raw / np.linalg.norm(raw), encoder.engine.run(batch), atol=1e-5)


def test_token_vectors_pool_to_the_same(encoder: Encoder, demo: Checkpoint, sample: list[str]) -> None:
    batch = pad(encoder.tokenizer.encode(sample[:6]), 0)
    tokens = encoder.engine.token_vectors(batch)
    np.testing.assert_allclose(
        pool(tokens, batch.attention_mask, demo.spec), encoder.engine.run(batch), atol=2e-3
    )


def test_long_texts_and_foreign_ids_are_errors(encoder: Encoder, demo: Checkpoint) -> None:
    longest = [[101] + [7592] * (demo.spec.max_length - 2) + [102]]
    assert np.isfinite(encoder.engine.run(pad(longest, 0))).all()
    with pytest.raises(ArtifactError, match="longer than"):
        encoder.engine.run(pad([[101] * 600], 0))
    for id in (-1, 30_522):
        with pytest.raises(ArtifactError, match="outside the model's"):
            encoder.engine.run(pad([[101, id, 102]], 0))


def test_it_says_nothing_and_closes_for_good(artifact: Artifact, capfd: pytest.CaptureFixture[str]) -> None:
    engine = open_engine(artifact, 1, "cpu")
    engine.run(pad([[101, 7592, 102]], 0))
    engine.close()
    engine.close()
    with pytest.raises(ArtifactError, match="closed"):
        engine.run(pad([[101, 7592, 102]], 0))
    assert capfd.readouterr() == ("", "")


@pytest.fixture(scope="module")
def small(
    shapes: Any, tiny_unigram: Any, make_checkpoint: Any, tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    shape = shapes["bert"](
        tiny_unigram, num_hidden_layers=1, hidden_size=64, intermediate_size=64, num_attention_heads=2
    )
    checkpoint = open_checkpoint(make_checkpoint(tmp_path_factory.mktemp("small") / "model", shape))
    folder = tmp_path_factory.mktemp("small-gguf")
    return artifact_of(folder, checkpoint.spec, write_gguf(checkpoint, "gguf-f32", folder).model_file)


def damaged(artifact: Artifact, folder: Path, change: Callable[[bytearray], bytes | bytearray]) -> Artifact:
    data = change(bytearray(artifact.model_path.read_bytes()))
    (folder / "damaged.gguf").write_bytes(data)
    return artifact_of(folder, artifact.manifest.encoding, "damaged.gguf")


def replaced(old: bytes, new: bytes) -> Callable[[bytearray], bytes]:
    assert len(old) == len(new)

    def change(data: bytearray) -> bytes:
        assert old in data
        return bytes(data).replace(old, new)

    return change


def _equal_tokens(data: bytearray) -> bytes:
    at = data.index(struct.pack("<Q", 5) + b"<unk>")
    other = data.index(struct.pack("<Q", 5) + b"<pad>")
    data[at : at + 13] = data[other : other + 13]
    return bytes(data)


DAMAGES: dict[str, tuple[Callable[[bytearray], bytes | bytearray], str]] = {
    "another architecture": (
        lambda data: replaced(b"bert", b"gpt2")(data).replace(b"ringkas.gpt2", b"ringkas.bert"),
        "architecture 'gpt2'",
    ),
    "no pooling metadata": (replaced(b"bert.pooling_type", b"bert.pooling_typo"), "no pooling_type"),
    "no epsilon": (replaced(b"layer_norm_epsilon", b"layer_norm_epsilom"), "layer_norm_epsilon"),
    "causal": (replaced(b"attention.causal", b"attention.casual"), "causal"),
    "another tensor name": (replaced(b"blk.0.ffn_up.weight", b"blk.7.ffn_up.weight"), "blk.0.ffn_up"),
    "equal tokens": (_equal_tokens, "tokens are equal"),
    "cut in the tensors": (lambda data: data[:-40_000], "past its end"),
    "cut in the keys": (lambda data: data[:300], "past its end"),
    "empty": (lambda data: b"", "empty"),
    "not GGUF": (lambda data: b"PK\x03\x04" + data[4:], "does not start with GGUF"),
    "another version": (lambda data: data[:4] + struct.pack("<I", 9) + data[8:], "version 9"),
    "too many tensors": (lambda data: data[:8] + struct.pack("<Q", 2**60) + data[16:], "claims"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_file_is_an_error_and_no_abort(small: Artifact, tmp_path: Path, damage: str) -> None:
    change, message = DAMAGES[damage]
    with pytest.raises(ArtifactError, match=message):
        open_engine(damaged(small, tmp_path, change), 1, None)


def test_a_tensor_that_is_not_finite_is_an_error(small: Artifact, tmp_path: Path) -> None:
    tensor = read_header(small.model_path).tensors["blk.0.ffn_up.weight"]

    def poison(data: bytearray) -> bytearray:
        data[tensor.offset : tensor.offset + 4] = np.float32("nan").tobytes()
        return data

    with (
        open_engine(damaged(small, tmp_path, poison), 1, None) as engine,
        pytest.raises(ArtifactError, match="not finite"),
    ):
        engine.run(pad([[0, 5, 2]], 1))


def test_the_manifest_and_the_file_must_agree(small: Artifact) -> None:
    for changes, message in (({"dimension": 32}, "dimensions"), ({"max_length": 4096}, "context")):
        spec = msgspec.structs.replace(small.manifest.encoding, **changes)
        with pytest.raises(ArtifactError, match=message):
            open_engine(artifact_of(small.path, spec, small.manifest.model_file), 1, None)


_FLIPS = """
import sys, random
from pathlib import Path
import msgspec
from ringkas.artifact import Artifact, Manifest
from ringkas.errors import ArtifactError
from ringkas.runtimes.engines.llama_engine import open_engine
from ringkas.tokens import pad
folder, head = Path(sys.argv[1]), int(sys.argv[2])
manifest = msgspec.json.decode((folder / "manifest").read_bytes(), type=Manifest)
good = (folder / "good.gguf").read_bytes()
chance = random.Random(5)
refused = 0
for trial in range(150):
    data = bytearray(good)
    for _ in range(chance.randint(1, 3)):
        data[chance.randrange(head)] = chance.randrange(256)
    (folder / "damaged.gguf").write_bytes(data)
    try:
        with open_engine(Artifact(folder, manifest), 1, None) as engine:
            engine.run(pad([[0, 5, 6, 2]], 1))
    except ArtifactError:
        refused += 1
print(refused)
"""


def test_no_flipped_byte_of_the_head_ends_the_process(small: Artifact, tmp_path: Path) -> None:
    (tmp_path / "good.gguf").write_bytes(small.model_path.read_bytes())
    manifest = artifact_of(tmp_path, small.manifest.encoding, "damaged.gguf").manifest
    (tmp_path / "manifest").write_bytes(msgspec.json.encode(manifest))
    head = min(tensor.offset for tensor in read_header(small.model_path).tensors.values())
    command = [sys.executable, "-c", _FLIPS, str(tmp_path), str(head)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-800:]
    assert int(done.stdout) > 20


def test_strings_are_segmented_as_the_reference_does(
    artifact: Artifact, encoder: Encoder, sample: list[str]
) -> None:
    texts = {"en": list(text_sets.probe(("en",))["en"]), "odd": ["naïve café", "", "a\u0085b", "[SEP] c"]}
    reports = compare_strings(artifact, texts, threads=1)
    assert reports["en"].same == reports["en"].texts > 0
    assert reports["en"].cosine_min == 1.0
    assert reports["odd"].same < reports["odd"].texts
    engine = encoder.engine
    assert isinstance(engine, LlamaEngine)
    assert llama_tokens(engine, ["hello world"]) == encoder.tokenizer.encode(["hello world"])


_SERVER_NEEDS = ("fastapi", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings")


@pytest.mark.skipif(
    any(find_spec(name) is None for name in _SERVER_NEEDS), reason="pip install 'llama-cpp-python[server]'"
)
def test_the_openai_compatible_server_gives_the_same_vectors(
    artifact: Artifact, encoder: Encoder, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(artifact.model_path)]
    command += ["--embedding", "true", "--host", "127.0.0.1", "--port", str(port), "--n_threads", "1"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([*command, "--n_threads_batch", "1"], stdout=log, stderr=log)
        try:
            texts = list(text_sets.probe(("en",))["en"])[:4]
            answer = _ask(f"http://127.0.0.1:{port}/v1/embeddings", {"input": texts, "model": "x"}, server)
        finally:
            server.terminate()
            server.wait(20)
    vectors = np.array([entry["embedding"] for entry in answer["data"]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)  # the server does not normalise
    assert (vectors * encoder.encode(texts)).sum(1).min() > 0.9999


def _ask(url: str, question: Any, server: subprocess.Popen[bytes]) -> Any:
    request = urllib.request.Request(
        url, json.dumps(question).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    for _ in range(240):
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.load(reply)
        except (ConnectionError, urllib.error.URLError):
            time.sleep(0.25)
    raise AssertionError("the server did not answer")
