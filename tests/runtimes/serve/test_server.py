"""The server against the facade: answers, prompts, refusals, many clients, keys, the end."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

import ringkas
from ringkas.artifact import Artifact
from ringkas.runtimes.encoder import Encoder

TEXTS = ["how do I reset my password?", "", "비밀번호 재설정", "🙂 e\u0301 a\u2028b"]
Answer = tuple[int, dict[str, Any], Any]


@pytest.fixture(scope="module")
def encoder(served_artifact: Artifact) -> Iterator[Encoder]:
    with ringkas.load(served_artifact, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def name(served_artifact: Artifact) -> str:
    return served_artifact.manifest.name


def call(url: str, body: object = None, **headers: str) -> Answer:
    """Status, JSON (or text), headers."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            status, content, got = response.status, response.read(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            status, content, got = error.code, error.read(), error.headers
    is_json = got.get("content-type") == "application/json"
    return status, json.loads(content) if is_json else {"text": content.decode()}, got


def embeddings(address: str, body: dict[str, Any], **headers: str) -> Answer:
    return call(f"{address}/v1/embeddings", body, **headers)


def vectors(answer: Answer) -> np.ndarray:
    assert answer[0] == 200, answer[1]
    assert [one["index"] for one in answer[1]["data"]] == list(range(len(answer[1]["data"])))
    return np.array([one["embedding"] for one in answer[1]["data"]], dtype=np.float32)


def test_vectors_are_the_facades(address: str, name: str, encoder: Encoder) -> None:
    answer = embeddings(address, {"input": TEXTS, "model": name})
    np.testing.assert_allclose(vectors(answer), encoder.encode(TEXTS), atol=1e-6)
    tokens = sum(map(len, encoder.tokenizer.encode(TEXTS)))
    assert answer[1]["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens, "long_texts": 0}
    assert (answer[1]["object"], answer[1]["model"]) == ("list", name)
    single = embeddings(address, {"input": TEXTS[0], "model": name})
    np.testing.assert_allclose(vectors(single)[0], encoder.encode(TEXTS[0]), atol=1e-6)


def test_base64_and_dimensions(address: str, name: str, encoder: Encoder) -> None:
    body = {"input": TEXTS, "model": name, "encoding_format": "base64", "dimensions": 8}
    _, answer, _ = embeddings(address, body)
    found = [np.frombuffer(base64.b64decode(one["embedding"]), "<f4") for one in answer["data"]]
    np.testing.assert_allclose(found, encoder.encode(TEXTS, dimensions=8), atol=1e-6)


def test_token_lists_are_the_models_own(address: str, name: str, encoder: Encoder) -> None:
    ids = encoder.tokenizer.encode(TEXTS)
    found = vectors(embeddings(address, {"input": ids, "model": name}))
    np.testing.assert_allclose(found, encoder.encode(TEXTS), atol=1e-6)
    one = vectors(embeddings(address, {"input": ids[0], "model": name}))
    np.testing.assert_allclose(one[0], found[0], atol=1e-6)


@pytest.mark.parametrize(
    ("suffix", "input_type", "prompt"),
    [
        ("", None, ""), (":query", None, "query"), ("", "query", "query"), (":query", "query", "query"),
        ("", "document", "passage"), (":passage", None, "passage"), (":document", None, "passage"),
    ],
)  # fmt: skip
def test_prompts(
    suffix: str, input_type: str | None, prompt: str, address: str, name: str, encoder: Encoder
) -> None:
    body = {"input": TEXTS, "model": name + suffix} | ({"input_type": input_type} if input_type else {})
    found = vectors(embeddings(address, body))
    np.testing.assert_allclose(found, encoder.encode(TEXTS, prompt=prompt), atol=1e-6)
    assert np.abs(found - encoder.encode(TEXTS, prompt="" if prompt else "query")).max() > 1e-3


def test_long_texts(address: str, name: str, encoder: Encoder) -> None:
    long = "password reset " * 100
    cut = embeddings(address, {"input": [long, "short"], "model": name})
    np.testing.assert_allclose(vectors(cut), encoder.encode([long, "short"]), atol=1e-6)
    assert cut[1]["usage"]["long_texts"] == 1
    windowed = embeddings(address, {"input": [long, "short"], "model": name, "truncation": "window"})
    assert np.abs(vectors(windowed)[0] - vectors(cut)[0]).max() > 1e-4
    np.testing.assert_allclose(vectors(windowed)[1], vectors(cut)[1], atol=1e-6)
    assert windowed[1]["usage"]["prompt_tokens"] > cut[1]["usage"]["prompt_tokens"]
    status, refused, _ = embeddings(address, {"input": [long], "model": name, "truncation": "error"})
    assert (status, refused["error"]["code"]) == (400, "context_length_exceeded")


BAD = {
    "no JSON": b"nonsense",
    "nothing": b"",
    "no UTF-8": b'{"model": "NAME", "input": "\xff"}',
    "a lone surrogate": b'{"model": "NAME", "input": "\\ud83d"}',
    "deep": b'{"model": "NAME", "input": ' + b"[" * 100_000,
    "a list": b"[]",
    "no input": b'{"model": "NAME"}',
    "null": b'{"model": "NAME", "input": null}',
    "a number": b'{"model": "NAME", "input": 5}',
    "an object": b'{"model": "NAME", "input": {"a": 1}}',
    "an empty list": b'{"model": "NAME", "input": []}',
    "an empty list in one": b'{"model": "NAME", "input": [[]]}',
    "a mixed list": b'{"model": "NAME", "input": ["a", 1]}',
    "a negative id": b'{"model": "NAME", "input": [-1]}',
    "a fraction": b'{"model": "NAME", "input": [1.5]}',
    "a huge id": b'{"model": "NAME", "input": [99999999]}',
    "an id beyond 64 bits": b'{"model": "NAME", "input": [99999999999999999999999]}',
    "too many ids": b'{"model": "NAME", "input": [' + b",".join([b"5"] * 65) + b"]}",
    "no dimensions": b'{"model": "NAME", "input": "a", "dimensions": 0}',
    "too many dimensions": b'{"model": "NAME", "input": "a", "dimensions": 33}',
    "another format": b'{"model": "NAME", "input": "a", "encoding_format": "hex"}',
    "an unknown field": b'{"model": "NAME", "input": "a", "truncate_prompt_tokens": 5}',
    "an unknown prompt": b'{"model": "NAME", "input": "a", "input_type": "nonsense"}',
    "two prompts": b'{"model": "NAME:query", "input": "a", "input_type": "document"}',
    "a prompt before ids": b'{"model": "NAME:query", "input": [1]}',
    "too many inputs": b'{"model": "NAME", "input": [' + b",".join([b'"a"'] * 2049) + b"]}",
    "too long a text": b'{"model": "NAME", "input": "' + b"a" * 300_000 + b'"}',
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_malformed_requests_are_400(kind: str, address: str, name: str) -> None:
    status, answer, _ = call(f"{address}/v1/embeddings", BAD[kind].replace(b"NAME", name.encode()))
    assert status == 400
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    assert answer["error"]["type"] == "invalid_request_error"


def test_other_refusals(address: str, name: str) -> None:
    assert embeddings(address, {"input": "a", "model": "nonsense"})[0] == 404
    assert call(f"{address}/v1/embeddings")[0] == 405
    assert call(f"{address}/nonsense")[1]["error"]["type"] == "invalid_request_error"
    status, answer, _ = call(f"{address}/v1/embeddings", b" " * (9 << 20))
    assert (status, answer["error"]["code"]) == (413, "too_large")
    assert call(f"{address}/v1/models/{name}:query")[1]["id"] == f"{name}:query"
    assert call(f"{address}/v1/models/nonsense")[0] == 404


def test_the_refusal_of_a_large_body_arrives(address: str) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    size = 15 << 20
    with socket.create_connection((host, int(port)), 30) as client:
        head = f"POST /v1/embeddings HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n"
        client.sendall(head.encode())
        for _ in range(size >> 20):  # as a client that looks at the answer when it has said all
            client.sendall(bytes(1 << 20))
            time.sleep(0.02)
        time.sleep(0.2)
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_hostile_requests_do_no_harm(
    server: tuple[str, subprocess.Popen[str]], name: str, encoder: Encoder
) -> None:
    """A short run of what benchmarks/serve_hostile.py does ten thousand times."""
    address, process = server
    place = urlsplit(address)
    chance = random.Random(0)
    bodies = [body.replace(b"NAME", name.encode()) for body in BAD.values()]

    def attack(count: int) -> None:
        for _ in range(count):
            body = chance.choice(bodies)
            with socket.create_connection((place.hostname, place.port)) as connection:
                head = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
                data = head.encode() + body
                connection.sendall(data[: chance.randrange(len(data))] if chance.random() < 0.5 else data)

    attack(50)
    before = resident(process.pid)
    attack(150)
    assert embeddings(address, {"input": "a", "model": name})[0] == 200
    assert resident(process.pid) - before < 64 << 20
    assert process.poll() is None
    found = vectors(embeddings(address, {"input": TEXTS, "model": name}))
    np.testing.assert_allclose(found, encoder.encode(TEXTS), atol=1e-6)


def test_many_clients_get_their_own_vectors(address: str, name: str, encoder: Encoder) -> None:
    texts = [f"{'word ' * (n % 30)}number {n}" for n in range(256)]
    expected = encoder.encode(texts)
    with ThreadPoolExecutor(32) as pool:
        found = list(
            pool.map(lambda text: vectors(embeddings(address, {"input": text, "model": name}))[0], texts)
        )
    np.testing.assert_allclose(found, expected, atol=1e-6)
    metrics = call(f"{address}/metrics")[1]["text"]
    counts = {
        line.split(" ")[0]: float(line.split(" ")[1]) for line in metrics.splitlines() if line[0] != "#"
    }
    batches, rows = (counts[f'ringkas_batch_rows_{part}{{model="{name}"}}'] for part in ("count", "sum"))
    assert rows > 1.2 * batches  # they were joined
    assert counts[f'ringkas_queued_tokens{{model="{name}"}}'] == 0


def test_pages(address: str, name: str) -> None:
    assert call(f"{address}/health")[1]["status"] == "ok"
    assert call(f"{address}/ready")[0] == 200
    names = [model["id"] for model in call(f"{address}/v1/models")[1]["data"]]
    assert names == [name, f"{name}:query", f"{name}:passage", f"{name}:document"]
    api = call(f"{address}/openapi.json")[1]
    assert {"/v1/embeddings", "/v1/models", "/metrics"} <= set(api["paths"])
    assert api["components"]["schemas"]["Request"]["additionalProperties"] is False
    assert "openapi.json" in call(f"{address}/docs")[1]["text"]


def test_full_queue_is_429_with_when_to_come_back(served_artifact: Artifact, name: str, running: Any) -> None:
    texts = ["word " * 50] * 30
    with running(served_artifact.path, "--queue-tokens", "2000") as (address, _):
        status, answer, _ = embeddings(address, {"input": texts * 3, "model": name})
        assert (status, answer["error"]["code"]) == (400, "too_many_tokens")
        with ThreadPoolExecutor(32) as pool:
            answers = list(
                pool.map(lambda _: embeddings(address, {"input": texts, "model": name}), range(64))
            )
        statuses = {status for status, _, _ in answers}
        assert statuses == {200, 429}
        refused = next(one for one in answers if one[0] == 429)
        assert (refused[1]["error"]["type"], refused[1]["error"]["code"]) == (
            "rate_limit_error",
            "queue_full",
        )
        assert int(refused[2]["retry-after"]) >= 1
        assert embeddings(address, {"input": "a", "model": name})[0] == 200


def test_key(served_artifact: Artifact, name: str, running: Any) -> None:
    body = {"input": "a", "model": name}
    with running(served_artifact.path, "--api-key", "OWN_KEY", OWN_KEY="secret") as (address, _):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer secre"}):
            status, answer, _ = embeddings(address, body, **headers)
            assert (status, answer["error"]["code"]) == (401, "invalid_api_key")
            assert call(f"{address}/v1/models", **headers)[0] == 401
        assert embeddings(address, body, Authorization="Bearer secret")[0] == 200
        assert call(f"{address}/health")[0] == 200


def test_told_to_end_it_finishes_what_was_begun(served_artifact: Artifact, name: str, running: Any) -> None:
    texts = ["word " * 50] * 500
    with running(served_artifact.path) as (address, process):
        answers: list[Answer] = []
        body = {"input": texts, "model": name}
        thread = threading.Thread(target=lambda: answers.append(embeddings(address, body)))
        thread.start()
        until = time.monotonic() + 30
        queued = f'ringkas_queued_tokens{{model="{name}"}} 0.0'
        while queued in call(f"{address}/metrics")[1]["text"] and time.monotonic() < until:
            pass
        os.kill(process.pid, signal.SIGTERM)
        thread.join(60)
        assert process.wait(60) == 0
    assert len(vectors(answers[0])) == len(texts)


def test_two_models_of_one_name_are_told_apart(served_artifact: Artifact, tmp_path: Path) -> None:
    from ringkas.errors import TargetError
    from ringkas.runtimes.serve.run import model_names

    other = ringkas.open_artifact(shutil.copytree(served_artifact.path, tmp_path / "other"))
    with pytest.raises(TargetError, match="two artifacts are both"):
        model_names([served_artifact, other])


def test_a_port_that_is_taken(address: str, served_artifact: Artifact) -> None:
    from ringkas.errors import RingkasError
    from ringkas.runtimes.serve.run import Service, serve

    with pytest.raises(RingkasError, match="cannot listen on"):
        serve(Service((served_artifact.path,), port=urlsplit(address).port or 0))


def test_a_key_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    from ringkas.errors import TargetError
    from ringkas.runtimes.serve.run import read_key

    monkeypatch.delenv("RINGKAS_API_KEY", raising=False)
    assert read_key(None) is None
    with pytest.raises(TargetError, match="ABSENT holds no key"):
        read_key("ABSENT")
    monkeypatch.setenv("RINGKAS_API_KEY", "secret")
    assert read_key(None) == "secret"


def test_the_openai_client(address: str, name: str, encoder: Encoder) -> None:
    openai = pytest.importorskip("openai", reason="the client is not installed: pip install openai")
    with openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model=name, input=TEXTS)  # it asks for base64 by itself
        found = [one.embedding for one in answer.data]
        np.testing.assert_allclose(found, encoder.encode(TEXTS), atol=1e-6)
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="nonsense", input="a")
        assert name in [model.id for model in client.models.list()]


def test_curl(address: str, name: str, encoder: Encoder) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = ["curl", "-s", f"{address}/v1/embeddings", "-d", json.dumps({"model": name, "input": "a b"})]
    done = subprocess.run(command, capture_output=True, check=True)
    np.testing.assert_allclose(
        json.loads(done.stdout)["data"][0]["embedding"], encoder.encode("a b"), atol=1e-6
    )
