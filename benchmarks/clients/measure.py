"""One client with one artifact: what it gives for each case, beside the facade."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from peers.environments import interpreter

import ringkas
from clients.cases import cases, expected
from clients.rows import DTYPES, NEAR, Client
from clients.servers import serving
from ringkas.artifact import open_artifact
from ringkas.export.to_onnx.browser import describe_graphs
from ringkas.export.to_onnx.graph import FLAT_FILE, TRANSFORMERS_JS_FILES, accept_token_types
from ringkas.files import staged_folder
from ringkas.runtimes.parity.judge import cosine

HERE = Path(__file__).parent
SAME = 0.9999
PATIENCE = 900  # seconds for a client with one artifact


@dataclass(frozen=True)
class Row:
    """What the table says of a client with a target.

    Args:
        client: its name.
        version: of its packages.
        target: of the artifact.
        call: what was called.
        least: the least cosine with the facade over all kinds of text on which it should agree; None where
            it did not run.
        texts: how many those are.
        differs: by kind of text, what it gave instead, and why.
        remark: what else its user must know.
        failed: why this row shows no agreement, "" where it does.
        bound: the least cosine that is taken for agreement.
    """

    client: str
    version: str
    target: str
    call: str
    least: float | None
    texts: int
    differs: Mapping[str, str] = field(default_factory=dict)
    remark: str = ""
    failed: str = ""
    bound: float = SAME


class Subject:
    """The artifact of a target in a folder of artifacts, with the facade's answers for all clients."""

    def __init__(self, dist: Path, target: str) -> None:
        self.dist, self.artifact = dist, open_artifact(dist / target)
        spec = self.artifact.manifest.encoding
        with ringkas.load(self.artifact, allow_failed=True) as encoder:
            self.cases = cases(encoder, spec, _specials(self.artifact.path))
            self.expected = expected(encoder, self.cases)

    def place(self, needs: str) -> tuple[Path, str]:
        """The folder that a client is given, and the model's file in it."""
        target, model_file = self.artifact.manifest.target, self.artifact.manifest.model_file
        if needs == "named":
            return self._named(), TRANSFORMERS_JS_FILES[target]
        if needs == "flat":
            return self._flat(), FLAT_FILE
        return self.artifact.path, model_file

    def _named(self) -> Path:
        """The graph by the name that transformers.js has for it, as in a bundle."""
        target = self.artifact.manifest.target
        place = self.dist / "named" / target
        if not place.is_dir():
            place.parent.mkdir(exist_ok=True)
            with staged_folder(place, overwrite=False) as folder:
                shutil.copytree(self.artifact.path, folder, dirs_exist_ok=True)
                graph = folder / self.artifact.manifest.model_file
                graph.rename(folder / TRANSFORMERS_JS_FILES[target])
                describe_graphs(folder)
        return place

    def _flat(self) -> Path:
        """The graph and the files as `ringkas build --flat` lays them, without building them again."""
        place = self.dist / "flat" / self.artifact.manifest.target
        if not place.is_dir():
            place.parent.mkdir(exist_ok=True)
            with staged_folder(place, overwrite=False) as folder:
                shutil.copytree(self.artifact.path, folder, dirs_exist_ok=True)
                for file in (folder / "onnx").iterdir():
                    file.rename(folder / file.name)
                accept_token_types(folder / FLAT_FILE)
        return place

    def embedded(self) -> Path:
        """A folder with what `ringkas embed` makes of the cases' texts."""
        folder = self.dist / "embedded" / self.artifact.manifest.target
        if not folder.is_dir():
            folder.mkdir(parents=True)
            texts = folder / "texts.jsonl"
            lines = [json.dumps({"text": case.prompt + case.text}) + "\n" for case in self.cases]
            texts.write_text("".join(lines), encoding="utf-8")
            for name in ("vectors.parquet", "vectors.npy"):
                command = [sys.executable, "-m", "ringkas", "embed", str(self.artifact.path), "--prompt", ""]
                command += ["--allow-failed", "--input", str(texts), "--output", str(folder / name)]
                subprocess.run(command, check=True, capture_output=True)
        return folder


def _specials(folder: Path) -> list[str]:
    stated = json.loads((folder / "special_tokens_map.json").read_text(encoding="utf-8"))
    found = [one["content"] if isinstance(one, dict) else one for one in stated.values()]
    return list(dict.fromkeys(found))


def measure(client: Client, subject: Subject, patience: float = PATIENCE) -> Row:
    """Runs a client on an artifact and compares.

    Raises:
        subprocess.CalledProcessError, RuntimeError: its environment cannot be made, or it does not run.
    """
    folder, model_file = subject.place(client.needs)
    manifest = subject.artifact.manifest
    request: dict[str, Any] = {
        "folder": str(folder.resolve()),
        "model_file": model_file,
        "name": manifest.name,
        "dimension": manifest.encoding.dimension,
        "max_length": manifest.encoding.max_length,
        "cases": [{"row": row, **asdict(case)} for row, case in enumerate(subject.cases)],
    }
    if client.needs == "embedded":
        request["embedded"] = str(subject.embedded().resolve())
    python = Path(sys.executable) if not client.environment else interpreter(client.environment)
    with ExitStack() as stack:
        if client.server:
            model = folder if client.server == "ringkas" else folder / model_file
            limit = manifest.encoding.max_length
            request["address"] = stack.enter_context(serving(client.server, model, limit, python))
        answer = _ask(client, python, request, manifest.target, patience)
    return compare(client, manifest.target, subject, answer)


def _ask(client: Client, python: Path, request: Any, target: str, patience: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "request.json"
        file.write_text(json.dumps(request), encoding="utf-8")
        values: dict[str, Callable[[], object]] = {
            "{packages}": lambda: interpreter("node"),
            "{browser}": lambda: interpreter("browser"),
            "{chromium}": lambda: shutil.which("chromium"),
            "{dtype}": lambda: DTYPES[target],
        }
        script, *rest = (str(values[word]()) if word in values else word for word in client.script)
        runner = ["node", "--liftoff-only"] if script.endswith(".mjs") else [str(python)]
        command = [*runner, str(HERE / script), *rest, str(file)]
        done = subprocess.run(
            command,
            cwd=work,
            check=False,
            capture_output=True,
            text=True,
            timeout=patience,
            env=_environment(),
        )
    if done.returncode or not done.stdout.strip():
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        said = next((line for line in reversed(lines) if "rror" in line), lines[-1])
        raise RuntimeError(f"{client.name} with {target}: {said[:400]}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def _environment() -> dict[str, str]:
    """No hub is asked, no program phones home, and this project's own source is not on the client's path."""
    own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return own | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "ANONYMIZED_TELEMETRY": "False",
        "HAYSTACK_TELEMETRY_ENABLED": "False",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
    }


def compare(client: Client, target: str, subject: Subject, answer: Mapping[str, Any]) -> Row:
    """The row of an answer. A kind that should agree and does not, or has no vector, is named in `failed`."""
    rows = answer["rows"]
    kinds: dict[str, list[float | str]] = {}
    for case, ours, theirs in zip(subject.cases, subject.expected, rows, strict=True):
        found = theirs if isinstance(theirs, str) else _cosine(ours, theirs)
        kinds.setdefault(case.kind, []).append(found)
    near = client.near.get(target, "")
    bound = NEAR if near else SAME
    agreed: list[float] = []
    differs, failed = {}, []
    for kind, found in kinds.items():
        numbers = [one for one in found if isinstance(one, float)]
        refused = next((one for one in found if isinstance(one, str)), "")
        if not refused and min(numbers) >= bound:
            agreed += numbers
            continue
        why = client.differs.get(kind, "")
        what = "no vector" if refused else f"{min(numbers):.4f}"
        if why:
            differs[kind] = f"{what}: {why}"
        else:
            failed.append(f"{kind}: {refused or f'{min(numbers):.6f}'}")
            agreed += numbers
    edge = near if agreed and SAME > min(agreed) >= bound else ""
    return Row(
        client.name,
        ", ".join(f"{name} {version}" for name, version in answer["versions"].items()),
        target,
        client.call,
        math.floor(min(agreed) * 1e6) / 1e6 if agreed else None,
        len(agreed),
        differs,
        "; ".join(part for part in (client.remark, _builds(answer), edge) if part),
        "; ".join(failed),
        bound,
    )


def _builds(answer: Mapping[str, Any]) -> str:
    return "loads " + ", ".join(answer["builds"]) if answer.get("builds") else ""


def _cosine(ours: Any, theirs: Sequence[float]) -> float | str:
    vector = np.asarray(theirs, dtype=np.float32)
    if vector.shape != ours.shape or not np.isfinite(vector).all() or not vector.any():
        return f"no vector of {len(ours)} numbers, but {str(theirs)[:80]}"
    return float(cosine(ours[None], vector[None])[0])


def not_run(client: Client, target: str, why: str) -> Row:
    """The row of a client that gave nothing."""
    return Row(client.name, "", target, client.call, None, 0, {}, client.remark, failed=why)
