"""The hub's own client against a hub on this machine, whose connection goes in the middle of a file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ringkas.hub import refuse_part

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/small-e5"

# What is fetched, opened in a process of its own: the client reads its settings when it is imported.
OPEN = """
import json, sys
from ringkas.checkpoint import open_checkpoint
from ringkas.errors import RingkasError
try:
    checkpoint = open_checkpoint(sys.argv[1])
except RingkasError as error:
    sys.exit(f"error: {error}")
spec = checkpoint.spec
print(json.dumps([checkpoint.origin, checkpoint.revision, spec.pooling.modes, spec.prompts]))
"""


class Hub(ThreadingHTTPServer):
    """Serves one model as a hub does, as far as its client asks.

    Attributes:
        broken: the file whose connection goes in the middle, or none.
        breaks: how often it goes before it holds.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder = folder
        self.broken: str | None = None
        self.breaks = 10**9
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def go(self) -> None:
        """The whole hub goes."""
        self.shutdown()
        self.server_close()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_HEAD(self) -> None:
        self._send_file(body=False)

    def do_GET(self) -> None:
        if "/api/models/" not in self.path:
            self._send_file(body=True)
        elif "/tree/" in self.path:
            paths = sorted(path for path in self.server.folder.rglob("*") if path.is_file())
            self._send_json([self._entry(path) for path in paths])
        else:
            self._send_json({"id": NAME, "sha": COMMIT, "siblings": []})

    def _entry(self, path: Path) -> dict[str, Any]:
        content = path.read_bytes()
        name = path.relative_to(self.server.folder).as_posix()
        return {
            "type": "file",
            "path": name,
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }

    def _send_json(self, value: object) -> None:
        content = json.dumps(value).encode()
        self._send_head(200, {"Content-Type": "application/json", "Content-Length": len(content)})
        self.wfile.write(content)

    def _send_file(self, *, body: bool) -> None:
        name = re.sub(r"^.*?/resolve/[^/]+/", "", self.path)
        content = (self.server.folder / name).read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        head: dict[str, Any] = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Content-Length": len(content) - start,
        }
        if asked:
            head["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._send_head(206 if asked else 200, head)
        if not body:
            return
        if name == self.server.broken and self.server.breaks:
            self.server.breaks -= 1
            self.wfile.write(content[start : max(start, len(content) // 2)])
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        else:
            self.wfile.write(content[start:])

    def _send_head(self, status: int, head: dict[str, Any]) -> None:
        self.send_response(status)
        for name, value in head.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def model(small_checkpoint: Callable[..., Path]) -> Path:
    """A model that is another one without its pooling or its prompts."""
    folder = small_checkpoint(pooling={"pooling_mode_cls_token": True}, prompts={"query": "q: "})
    (folder / "README.md").write_text("---\nlicense: mit\n---\n", "utf-8")
    return folder


@pytest.fixture
def hub(model: Path) -> Iterator[Hub]:
    made = Hub(model)
    yield made
    made.go()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def run(hub: Hub, home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python in a process of its own, whose hub is ours and whose cache is empty at first."""

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        ours = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
        return subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, **ours, **variables},
            check=False,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def snapshot(home: Path) -> Path:
    return home / "hub" / f"models--{NAME.replace('/', '--')}" / "snapshots" / COMMIT


def opened(ran: subprocess.CompletedProcess[str]) -> list[Any]:
    assert ran.returncode == 0, ran.stderr
    return list(json.loads(ran.stdout))


def refusal(ran: subprocess.CompletedProcess[str]) -> str:
    """The one line that says why; nothing was opened."""
    assert (ran.returncode, ran.stdout) == (1, ""), ran.stdout
    assert "Traceback" not in ran.stderr
    (line,) = (line for line in ran.stderr.splitlines() if line.startswith("error: "))
    return line


WHOLE = [NAME, COMMIT, ["cls"], {"query": "q: "}]


def test_model_is_fetched_and_its_commit_recorded(hub: Hub, run: Any) -> None:
    assert opened(run("-c", OPEN, NAME)) == WHOLE
    hub.go()
    assert opened(run("-c", OPEN, NAME)) == WHOLE


@pytest.mark.parametrize("file", ["model.safetensors", "modules.json", "1_Pooling/config.json"])
def test_what_an_interrupted_download_left_never_opens(hub: Hub, run: Any, home: Path, file: str) -> None:
    hub.broken = file
    assert "could not be fetched from the hub" in refusal(run("-c", OPEN, NAME))
    assert not (snapshot(home) / file).is_file()
    for name, variables in [
        (NAME, {"HF_HUB_OFFLINE": "1"}),
        (NAME, {"HF_ENDPOINT": "http://127.0.0.1:9"}),
        (str(snapshot(home)), {}),
    ]:
        assert NAME in refusal(run("-c", OPEN, name, **variables))

    hub.broken = None
    assert opened(run("-c", OPEN, NAME)) == WHOLE


def test_connection_that_comes_back_leaves_the_same_bytes(
    hub: Hub, run: Any, home: Path, model: Path
) -> None:
    hub.broken, hub.breaks = "model.safetensors", 2
    assert opened(run("-c", OPEN, NAME)) == WHOLE
    for path in model.rglob("*"):
        if path.is_file():
            assert (snapshot(home) / path.relative_to(model)).read_bytes() == path.read_bytes()


SOME = """
import sys
from huggingface_hub import hf_hub_download
for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
    hf_hub_download(sys.argv[1], file)
"""


def test_what_another_program_fetched_in_part_never_opens_without_a_hub(
    hub: Hub, run: Any, home: Path
) -> None:
    run("-c", SOME, NAME)
    assert (snapshot(home) / "model.safetensors").is_file()
    assert NAME in refusal(run("-c", OPEN, NAME, HF_HUB_OFFLINE="1"))
    assert opened(run("-c", OPEN, NAME)) == WHOLE


def test_without_the_check_a_part_opens_as_another_model(hub: Hub, run: Any) -> None:
    """The sabotaged twin: what the test above guards against is real."""
    run("-c", SOME, NAME)
    sabotage = "from ringkas import hub\nhub._listed = lambda *_, **__: []\n"
    assert opened(run("-c", sabotage + OPEN, NAME, HF_HUB_OFFLINE="1")) != WHOLE


FETCH_INTO = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], local_dir=sys.argv[2])
"""


def test_folder_that_files_were_fetched_into_is_whole_or_refused(hub: Hub, run: Any, tmp_path: Path) -> None:
    own = tmp_path / "own"
    hub.broken = "modules.json"
    assert run("-c", FETCH_INTO, NAME, str(own)).returncode == 1
    assert "modules.json" in refusal(run("-c", OPEN, str(own)))
    hub.broken = None
    run("-c", FETCH_INTO, NAME, str(own))
    assert opened(run("-c", OPEN, str(own))) == ["own", *WHOLE[1:]]


@pytest.mark.parametrize("content", ["", "[]", "[" * 200_000, '{"format_version": 1, "files": {"x": 3}}'])
def test_list_that_is_damaged_says_nothing(tmp_path: Path, content: str) -> None:
    kept = tmp_path / ".cache" / "huggingface" / "trees" / f"{COMMIT}.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(content, "utf-8")
    refuse_part(tmp_path, NAME, COMMIT, cached=False)


def test_build_whose_download_breaks_leaves_nothing_and_ends_well_later(
    hub: Hub, run: Any, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "dist"
    build = ("-m", "ringkas", "build", NAME, "--target", "pytorch-fp32", "--out", str(out))
    hub.broken = "model.safetensors"
    broken = run(*build)
    assert (broken.returncode, broken.stdout) == (2, "")
    assert "could not be fetched from the hub" in broken.stderr
    assert "Traceback" not in broken.stderr
    assert not out.exists()
    hub.broken = None
    assert run(*build).returncode == 0
    assert [path.name for path in out.iterdir()] == ["pytorch-fp32"]


def test_model_that_the_hub_has_not_is_one_line(run: Any) -> None:
    assert "someone/else" in refusal(run("-c", OPEN, "someone/else", HF_ENDPOINT="http://127.0.0.1:9"))
