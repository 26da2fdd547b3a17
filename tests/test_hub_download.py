"""The hub's own client against a hub on this machine, whose connection goes in the middle of a file."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ringkas.errors import CheckpointError
from ringkas.hub import refuse_part

pytest.importorskip("huggingface_hub")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "someone/small-e5"

# The list of a hub's files that its client leaves beside them.
LISTED = '{"format_version": 1, "files": {%s: %s}}'
ENTRY = '{"size": 1, "blob_id": "0"}'

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
        commit: what its only branch is at.
        broken: the file whose connection goes in the middle, or none.
        breaks: how often it goes before it holds.
        asked: the paths of all requests.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.folder = folder
        self.commit = COMMIT
        self.asked: list[str] = []
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
        self.server.asked.append(self.path)
        if NAME not in self.path:
            self.send_error(404)
        elif "/api/models/" not in self.path:
            self._send_file(body=True)
        elif "/tree/" in self.path:
            paths = sorted(path for path in self.server.folder.rglob("*") if path.is_file())
            self._send_json([self._entry(path) for path in paths])
        else:
            self._send_json({"id": NAME, "sha": self.server.commit, "siblings": []})

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
            "X-Repo-Commit": self.server.commit,
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
    (folder / "onnx").mkdir()
    for other in ("pytorch_model.bin", "onnx/model.onnx"):
        (folder / other).write_bytes(b"never asked for")
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
        others = re.compile(r"(HF|HUGGINGFACE|TRANSFORMERS)_.*|.*_PROXY", re.IGNORECASE)
        inherited = {name: value for name, value in os.environ.items() if not others.fullmatch(name)}
        ours = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home)}
        return subprocess.run(
            [sys.executable, *arguments],
            env={**inherited, **ours, **variables},
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
    """The one line that says why, and the last; nothing was opened."""
    assert (ran.returncode, ran.stdout) == (1, ""), ran.stdout
    assert "Traceback" not in ran.stderr
    line = ran.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    return line


WHOLE = [NAME, COMMIT, ["cls"], {"query": "q: "}]


def test_model_is_fetched_and_its_commit_recorded(hub: Hub, run: Any) -> None:
    revised = OPEN.replace("sys.argv[1])", "sys.argv[1], revision='v1')")
    assert opened(run("-c", revised, NAME)) == WHOLE
    assert any(path.endswith("/revision/v1") for path in hub.asked)
    assert opened(run("-c", OPEN, NAME)) == WHOLE
    assert not any(name in path for path in hub.asked for name in (".bin", "onnx/"))
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
    came = [path.relative_to(snapshot(home)) for path in snapshot(home).rglob("*") if path.is_file()]
    assert Path("model.safetensors") in came
    for path in came:
        assert (snapshot(home) / path).read_bytes() == (model / path).read_bytes()


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
    told = refusal(run("-c", OPEN, NAME, HF_HUB_OFFLINE="1"))
    assert "nobody can tell whether all of it is" in told
    assert str(snapshot(home)) in told
    assert opened(run("-c", OPEN, NAME)) == WHOLE


def test_without_the_check_a_part_opens_as_another_model(hub: Hub, run: Any) -> None:
    """The sabotaged twin: what the test above guards against is real."""
    run("-c", SOME, NAME)
    sabotage = (
        "from ringkas import hub\nhub._refuse_lacking = lambda *_: None\nhub._listed = lambda *_, **__: []\n"
    )
    assert opened(run("-c", sabotage + OPEN, NAME, HF_HUB_OFFLINE="1")) != WHOLE


FETCH_INTO = """
import sys
from huggingface_hub import snapshot_download
snapshot_download(sys.argv[1], local_dir=sys.argv[2])
"""


@pytest.mark.parametrize("name", ["own", "org--name", "my model"])
def test_folder_that_files_were_fetched_into_is_whole_or_refused(
    hub: Hub, run: Any, tmp_path: Path, name: str
) -> None:
    own = tmp_path / name
    hub.broken = "modules.json"
    assert run("-c", FETCH_INTO, NAME, str(own)).returncode == 1
    told = refusal(run("-c", OPEN, str(own)))
    assert "without modules.json" in told
    hub.broken = None
    run("-c", FETCH_INTO, NAME, str(own))
    assert opened(run("-c", OPEN, str(own)))[1:] == WHOLE[1:]
    # Taken away on purpose, it opens once the hub's list is gone, as the refusal says.
    (own / "modules.json").unlink()
    assert str(own / ".cache" / "huggingface") in refusal(run("-c", OPEN, str(own)))
    shutil.rmtree(own / ".cache")
    assert opened(run("-c", OPEN, str(own)))[2] == ["mean"]


def test_update_that_was_interrupted_does_not_open(hub: Hub, run: Any, tmp_path: Path, model: Path) -> None:
    own = tmp_path / "own"
    assert run("-c", FETCH_INTO, NAME, str(own)).returncode == 0
    hub.folder = Path(shutil.copytree(model, tmp_path / "newer"))
    weights = hub.folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    hub.commit, hub.broken = COMMIT[::-1], "model.safetensors"
    assert run("-c", FETCH_INTO, NAME, str(own)).returncode == 1
    assert "model.safetensors" in refusal(run("-c", OPEN, str(own)))
    hub.broken = None
    assert run("-c", FETCH_INTO, NAME, str(own)).returncode == 0
    assert opened(run("-c", OPEN, str(own)))[1:] == [COMMIT[::-1], *WHOLE[2:]]


def test_files_of_two_commits_do_not_open(tmp_path: Path) -> None:
    left = tmp_path / ".cache" / "huggingface"
    for file, commit in (("config.json", COMMIT), ("model.safetensors", COMMIT)):
        (tmp_path / file).write_text("{}", "utf-8")
        (left / "download").mkdir(parents=True, exist_ok=True)
        (left / "download" / f"{file}.metadata").write_text(f"{commit}\nan-etag\n1.0\n", "utf-8")
    (left / "trees").mkdir()
    listed = LISTED % ('"model.safetensors"', ENTRY)
    (left / "trees" / f"{COMMIT}.json").write_text(listed, "utf-8")
    refuse_part(tmp_path, COMMIT)
    (left / "download" / "model.safetensors.metadata").write_text(f"{COMMIT[::-1]}\nan-etag\n1.0\n", "utf-8")
    with pytest.raises(CheckpointError, match=r"two commits.*model\.safetensors"):
        refuse_part(tmp_path, COMMIT)


@pytest.mark.parametrize(
    ("content", "passes"),
    [
        (LISTED % ('"modules.json"', ENTRY), False),
        (LISTED % ('"model-00001-of-00002.safetensors"', ENTRY), False),
        (LISTED % ('"2_Dense/config.json"', ENTRY), False),
        (LISTED % ('"generation_config.json"', ENTRY), True),
        (LISTED % ('"coreml/config.json"', ENTRY), True),
        (LISTED % ('"modules.json"', "3"), True),
        (LISTED % (json.dumps("a" * 300 + "/config.json"), ENTRY), True),
        ("", True),
        ("[]", True),
        ("[" * 200_000, True),
    ],
)
def test_what_the_list_says_is_missing_decides(tmp_path: Path, content: str, passes: bool) -> None:
    """And a list that is damaged says nothing."""
    kept = tmp_path / ".cache" / "huggingface" / "trees" / f"{COMMIT}.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(content, "utf-8")
    with nullcontext() if passes else pytest.raises(CheckpointError, match="only a part"):
        refuse_part(tmp_path, COMMIT)


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


@pytest.mark.parametrize("address", [None, "http://127.0.0.1:9"])
def test_model_that_the_hub_has_not_and_hub_that_is_not_there_are_one_line(
    run: Any, address: str | None
) -> None:
    variables = {} if address is None else {"HF_ENDPOINT": address}
    assert "someone/else" in refusal(run("-c", OPEN, "someone/else", **variables))
