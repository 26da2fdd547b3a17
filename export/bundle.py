"""`ringkas bundle`: variants of one model in one folder, each where other programs look for it.

A program that loads a model from a hub takes one folder, and chooses the file in it. What the variants share
(tokenizer, configuration, the probe) is there once; each graph or GGUF has the name that its readers know.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ringkas.artifact import (
    Artifact,
    FileEntry,
    Manifest,
    list_files,
    open_artifact,
    seal_bundle,
    with_files,
)
from ringkas.errors import ArtifactError
from ringkas.export.bundle_card import bundle_card
from ringkas.export.to_onnx.browser import CONFIG_KEY, DATA_SUFFIX, describe_graphs
from ringkas.export.to_onnx.graph import TRANSFORMERS_JS_FILES
from ringkas.extras import require
from ringkas.files import staged_folder, write_json
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.runtimes.parity.verify import verify
from ringkas.targets import targets

# Each artifact has its own; a bundle gets one of its own too.
_OWN_CARD, _CONFIG = "README.md", "config.json"
# Vectors of the same reference, which another machine rounds otherwise: the first artifact's are kept, and
# every variant is judged by them.
_PROBE = "parity/"


@dataclass(frozen=True)
class Bundled:
    """A variant in its bundle, and the report that it was verified with there."""

    artifact: Artifact
    report: ParityReport


def bundle(
    artifacts: Sequence[str | Path | Artifact],
    out: str | Path,
    *,
    overwrite: bool = False,
    threads: int | None = None,
    progress: Progress = QUIET,
) -> list[Bundled]:
    """Lays variants of one model side by side in the folder `out`, and verifies each there.

    Args:
        artifacts: their folders, of different targets; TensorRT's plans cannot be among them.
        out: the folder to make.
        overwrite: replace a folder that is there.
        threads: how many threads verifying may use.
        progress: where each part of the work is announced.

    Raises:
        ArtifactError: they are not of one model, two have one target, or a file is altered.
    """
    opened = [one if isinstance(one, Artifact) else open_artifact(one) for one in artifacts]
    _check(opened)
    with staged_folder(Path(out), overwrite=overwrite) as folder:
        own = {one.manifest.target: _lay(one, folder) for one in opened}
        describe_graphs(folder)
        manifests = {
            one.manifest.target: msgspec.structs.replace(
                one.manifest, model_file=_place(one.manifest), files={}, checksum=""
            )
            for one in opened
        }
        (folder / _OWN_CARD).touch()
        _seal(folder, manifests, own)
        reports = {name: _verify(folder, name, threads, progress) for name in manifests}
        card = bundle_card(folder, manifests, reports)
        (folder / _OWN_CARD).write_text(card, encoding="utf-8")
        _seal(folder, manifests, own)
    return [Bundled(open_artifact(out, name), report) for name, report in reports.items()]


def _check(opened: Sequence[Artifact]) -> None:
    if not opened:
        raise ArtifactError("no artifact is named", fix="Name the folders that ringkas build made")
    kinds = targets()
    seen: dict[str, Artifact] = {}
    for one in opened:
        name = one.manifest.target
        if name not in kinds or kinds[name].format.plans:
            raise ArtifactError(
                f"{one.path} ({name}) cannot lie in a bundle",
                why="a plan is for one GPU",
                fix="Ship its folder by itself",
            )
        if name in seen:
            raise ArtifactError(f"{seen[name].path} and {one.path} are both {name}", fix="Leave one out")
        seen[name] = one
        one.check_files()
        if difference := _difference(opened[0], one):
            raise ArtifactError(
                f"{opened[0].path} and {one.path} are not of one model",
                why=f"their {difference} differ",
                fix="Build them from one checkpoint, for the same languages",
            )


def _difference(first: Artifact, other: Artifact) -> str:
    """What makes two artifacts other models, in a word; "" where nothing does."""
    for name in ("name", "source", "encoding", "languages"):
        if getattr(first.manifest, name) != getattr(other.manifest, name):
            return f"manifests' {name}"
    files, others = _shared(first), _shared(other)
    names = sorted(files.keys() ^ others.keys() - {_OWN_CARD})
    names += [
        name for name in files.keys() & others.keys()
        if not name.startswith(_PROBE) and files[name].sha256 != others[name].sha256
    ]  # fmt: skip
    if _config(first) != _config(other):
        names.append(_CONFIG)
    return names[0] if names else ""


def _shared(one: Artifact) -> dict[str, FileEntry]:
    """The files of an artifact that its bundle has once, but for those that are made anew."""
    own = {one.manifest.model_file, f"{one.manifest.model_file}{DATA_SUFFIX}", _OWN_CARD, _CONFIG}
    return {name: entry for name, entry in one.manifest.files.items() if name not in own}


def _config(one: Artifact) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((one.path / _CONFIG).read_text(encoding="utf-8"))
    found.pop(CONFIG_KEY, None)
    return found


def _place(manifest: Manifest) -> str:
    """The model file's name in a bundle: as transformers.js has it, and sentence-transformers' users."""
    return TRANSFORMERS_JS_FILES.get(manifest.target, manifest.model_file)


def _lay(one: Artifact, folder: Path) -> frozenset[str]:
    """Copies an artifact's files to their places in the bundle; the names of those that are its alone."""
    for name in (*_shared(one), _CONFIG):
        _copy(one.path / name, folder / name)
    place = _place(one.manifest)
    _copy(one.model_path, folder / place)
    data = one.path / f"{one.manifest.model_file}{DATA_SUFFIX}"
    if not data.is_file():
        return frozenset({place})
    beside = f"{place}{DATA_SUFFIX}"
    _copy(data, folder / beside)
    if Path(beside).name != data.name:
        _point_to(folder / place, Path(beside).name)
    return frozenset({place, beside})


def _copy(source: Path, place: Path) -> None:
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, place)


def _point_to(graph: Path, data: str) -> None:
    """Writes into a graph that its weights lie in the file `data` beside it."""
    require("export", "onnx")
    import onnx

    model = onnx.load(graph, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = data
    onnx.save(model, graph)
    onnx.checker.check_model(str(graph))


def _seal(folder: Path, manifests: dict[str, Manifest], own: dict[str, frozenset[str]]) -> None:
    files = list_files(folder)
    alone = frozenset().union(*own.values())
    listed = {
        name: with_files(
            manifest,
            {file: entry for file, entry in files.items() if file not in alone or file in own[name]},
        )
        for name, manifest in manifests.items()
    }
    seal_bundle(folder, listed)


def _verify(folder: Path, name: str, threads: int | None, progress: Progress) -> ParityReport:
    opened = open_artifact(folder, name)
    report = verify(opened, record=False, threads=threads, progress=progress)
    write_json(opened.parity_path, report)
    return report
