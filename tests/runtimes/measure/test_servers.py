"""The driver of servers, against a server of a few lines whose behaviour is known."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ringkas.cli import cli
from ringkas.errors import RingkasError
from ringkas.runtimes.measure.http_client import Server
from ringkas.runtimes.measure.rounds import Procedure
from ringkas.runtimes.measure.servers import bench_servers

TEXTS = ("one", "two words", "three words here")
PLAN = Procedure(rounds=1, seconds=0.1, scenarios=("server",), latency_bound_ms=5000, rate=40)


class Handler(BaseHTTPRequestHandler):
    """Answers after `delay` seconds; refuses where `status` says so."""

    protocol_version = "HTTP/1.1"
    delay, status = 0.0, 200

    def do_GET(self) -> None:
        self._answer(200, {"data": [{"id": "known"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        assert body["model"] == "known"
        time.sleep(self.delay)
        data = [{"index": n, "embedding": [float(len(text))]} for n, text in enumerate(texts)]
        self._answer(self.status, {"data": data})

    def _answer(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_rate_is_held_and_latency_is_what_the_server_takes(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "delay", 0.03)
    (row,) = bench_servers([Server(url)], TEXTS, PLAN).rows
    assert row.served is not None
    (trial,) = row.served.trials
    assert trial.holds
    assert trial.texts >= 70
    assert trial.p50_ms is not None
    assert trial.p50_ms >= 30


def test_a_bound_that_is_missed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "delay", 0.2)
    plan = Procedure(rounds=1, seconds=0.1, scenarios=("server",), latency_bound_ms=100, rate=40)
    (row,) = bench_servers([Server(url)], TEXTS, plan).rows
    assert row.served is not None
    assert row.served.rate == 0


def test_a_server_that_refuses_is_an_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "status", 503)
    with pytest.raises(RingkasError, match="the server gave no embeddings: status 503"):
        bench_servers([Server(url)], TEXTS, PLAN)


def test_nobody_there() -> None:
    with pytest.raises(RingkasError, match="no server answers at"):
        bench_servers([Server("http://127.0.0.1:9")], TEXTS, PLAN)
    with pytest.raises(RingkasError, match="no http address"):
        Server("ftp://x").address()


def test_the_command(url: str, tmp_path: Path) -> None:
    command = ["bench", "--scenario", "server", "--url", url, "--rate", "30", "--rounds", "1"]
    command += ["--latency-bound", "5000", "--json", str(tmp_path / "served.json")]
    result = CliRunner().invoke(cli, command, prog_name="ringkas")
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads((tmp_path / "served.json").read_bytes())["rows"]
    assert row["served"]["rate"] == 30
    assert "Served as they arrive" in result.stdout
    for wrong in (["--scenario", "offline"], ["--html", "x.html"], ["artifact"]):
        refused = CliRunner().invoke(cli, ["bench", "--url", url, *wrong], prog_name="ringkas")
        assert refused.exit_code == 2
