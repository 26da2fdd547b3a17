"""`ringkas demo-page`: an artifact becomes a folder of static files, a search page that runs in the browser.

Nothing in it has an external address: transformers.js and onnxruntime-web are copied into it, out of npm's
packages. The passages' vectors are computed here; a query's on the device.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from ringkas.artifact import Artifact, open_artifact
from ringkas.cache import cache_folder
from ringkas.errors import ArtifactError, RingkasError
from ringkas.export.to_onnx.browser import DATA_SUFFIX, DTYPES, describe_graphs
from ringkas.export.to_onnx.graph import TRANSFORMERS_JS_FILES
from ringkas.files import staged_folder
from ringkas.progress import QUIET, Progress
from ringkas.questions import QuestionsByLanguage, passages, questions
from ringkas.runtimes.encoder import Encoder, load
from ringkas.runtimes.parity.probe import load_probe
from ringkas.runtimes.parity.verify import covered_rows

# transformers.js brings the onnxruntime-web that it was made for.
PACKAGE = "@huggingface/transformers@4.3.2"
# What the page loads of npm's packages: ONNX Runtime's plain build, half the size of the one for GPUs.
VENDORED = (
    "@huggingface/transformers/dist/transformers.min.js",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
)
_LICENCES = {
    "@huggingface/transformers/LICENSE": "transformers.js.LICENSE",
    "onnxruntime-web/LICENSE": "onnxruntime-web.LICENSE",
}
_ASSETS = ("index.html", "page.css", "page.js", "worker.js", "offline.js")
# What a tokenizer and a graph need of an artifact, besides the graph.
_MODEL_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_EXAMPLES, _REFERENCE_TEXTS = 2, 4


@dataclass(frozen=True)
class Page:
    """A page that was made. `model` counts the bytes of graph and tokenizer, `runtime` those of
    onnxruntime-web's WebAssembly, `other` all else."""

    path: Path
    model: int
    runtime: int
    other: int


def demo_page(
    artifact: str | Path | Artifact,
    out: str | Path,
    *,
    variant: str | None = None,
    packages: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = QUIET,
) -> Page:
    """Makes the page of an ONNX artifact in the folder `out`; serve it with `python -m http.server -d out`.

    Args:
        artifact: its folder, or a bundle's.
        out: the folder to make.
        variant: which of a bundle is meant.
        packages: a folder in which npm has installed `PACKAGE`; None installs it once into the user's cache.
        overwrite: replace a folder that is there.
        progress: where each part of the work is announced.

    Raises:
        ArtifactError: it is no ONNX artifact, was altered, or its parity fell short.
        RingkasError: npm, or one of its packages, is not there.
    """
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact, variant)
    target = opened.manifest.target
    if target not in TRANSFORMERS_JS_FILES:
        raise ArtifactError(
            f"{opened.path} ({target}) does not run in a browser",
            fix="Build one of: " + ", ".join(TRANSFORMERS_JS_FILES),
        )
    modules = find_packages(None if packages is None else Path(packages), progress)
    with staged_folder(Path(out), overwrite=overwrite) as folder:
        for name in VENDORED:
            _copy(modules / name, folder / "vendor" / Path(name).name)
        for name, place in _LICENCES.items():
            if (modules / name).is_file():
                _copy(modules / name, folder / "vendor" / place)
        _copy_model(opened, folder / "model")
        with progress.stage("encoding the passages"), load(opened) as encoder:
            _write_collection(opened, encoder, folder)
        assets = files("ringkas") / "data" / "page"
        for name in _ASSETS:
            (folder / name).write_text((assets / name).read_text(encoding="utf-8"), encoding="utf-8")
        _list_for_offline(folder)
        model = _weight(folder.glob("model/**/*"))
        runtime = _weight(folder.glob("vendor/*.wasm"))
        other = _weight(folder.rglob("*")) - model - runtime
    return Page(Path(out), model, runtime, other)


def find_packages(stated: Path | None, progress: Progress = QUIET) -> Path:
    """The folder node_modules that has what the page loads.

    Raises:
        RingkasError: it is not there, and npm cannot install it.
    """
    if stated is not None:
        modules = stated if stated.name == "node_modules" else stated / "node_modules"
        if missing := _missing(modules):
            raise RingkasError(
                f"{modules} has no {missing}", fix=f"Run: npm install --prefix {stated} {PACKAGE}"
            )
        return modules
    folder = cache_folder() / "npm" / PACKAGE.rpartition("@")[2]
    if _missing(folder / "node_modules"):
        npm = shutil.which("npm")
        if npm is None:
            raise RingkasError(
                "npm is not here", why="the page's JavaScript comes from npm",
                fix="Install Node.js 20 or later, or name a folder that has it with --packages",
            )  # fmt: skip
        command = [npm, "install", "--prefix", ".", "--ignore-scripts", "--no-audit", "--no-fund", PACKAGE]
        with progress.stage(f"installing {PACKAGE}"), staged_folder(folder, overwrite=True) as made:
            done = subprocess.run(command, cwd=made, check=False, capture_output=True, text=True)
            if done.returncode:
                raise RingkasError(
                    f"npm could not install {PACKAGE}",
                    why=(done.stderr.strip().splitlines() or [""])[-1][:300],
                )
    if missing := _missing(folder / "node_modules"):
        raise RingkasError(f"{PACKAGE} has no {missing}", fix=f"Remove {folder}, and try again")
    return folder / "node_modules"


def _missing(modules: Path) -> str:
    return next((name for name in VENDORED if not (modules / name).is_file()), "")


def _copy(source: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, place)


def _copy_model(opened: Artifact, folder: Path) -> None:
    """The graph under its own name, so that what lies beside it needs no rewriting."""
    for name in _MODEL_FILES:
        if (opened.path / name).is_file():
            _copy(opened.path / name, folder / name)
    name = Path(opened.manifest.model_file).name
    for file in (name, f"{name}{DATA_SUFFIX}"):
        if (opened.model_path.parent / file).is_file():
            _copy(opened.model_path.parent / file, folder / "onnx" / file)
    describe_graphs(folder)


def _write_collection(opened: Artifact, encoder: Encoder, folder: Path) -> None:
    """`site.json` and the passages' vectors, little-endian float32 rows scaled to length 1."""
    asked = questions(opened.manifest.languages)
    listed = [passage for own in asked.values() for passage in passages(own)]
    spec = opened.manifest.encoding
    vectors = np.asarray(encoder.encode_document(listed), dtype="<f4")
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    (folder / "vectors.bin").write_bytes(vectors.tobytes())
    site = {
        "name": opened.manifest.name,
        "target": opened.manifest.target,
        "dtype": DTYPES[Path(opened.manifest.model_file).name],
        "bytes": _weight(folder.glob("model/**/*")),
        "query_prompt": spec.prompts.get(spec.query_prompt() or "", ""),
        "document_prompt": spec.prompts.get(spec.document_prompt() or "", ""),
        "passages": listed,
        "examples": _examples(asked),
        "reference": _reference(opened),
    }
    (folder / "site.json").write_text(json.dumps(site, ensure_ascii=False), encoding="utf-8")


def _examples(asked: QuestionsByLanguage) -> list[str]:
    few = _EXAMPLES if len(asked) < 4 else 1
    return [question.query for own in asked.values() for question in own[:few]]


def _reference(opened: Artifact) -> list[dict[str, Any]]:
    """Texts of the probe set with the original's vectors, scaled to length 1."""
    probe = load_probe(opened.path)
    rows = covered_rows(probe.token_ids, opened.kept_ids())[:: max(1, len(probe) // _REFERENCE_TEXTS)]
    chosen = []
    for row in rows[:_REFERENCE_TEXTS]:
        vector = probe.vectors[row].astype(np.float64)
        vector /= np.linalg.norm(vector)
        chosen.append({"text": probe.texts[row], "vector": [round(float(value), 6) for value in vector]})
    return chosen


def _list_for_offline(folder: Path) -> None:
    """Writes into the service worker which files there are, and a name that changes with any of them."""
    names, digest = ["./"], hashlib.sha256()
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        names.append(file.relative_to(folder).as_posix())
        digest.update(names[-1].encode() + file.read_bytes())
    names.remove("offline.js")
    script = (folder / "offline.js").read_text(encoding="utf-8")
    script = script.replace("const FILES = [];", f"const FILES = {json.dumps(names)};")
    script = script.replace("ringkas-0", f"ringkas-{digest.hexdigest()[:16]}")
    (folder / "offline.js").write_text(script, encoding="utf-8")


def _weight(found: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in found if file.is_file())
