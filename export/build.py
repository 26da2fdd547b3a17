"""`ringkas build`: checkpoint in, verified artifacts out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ringkas.artifact import PARITY_FILE, Artifact, Manifest, Source, open_artifact, seal
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.errors import ArtifactError, TargetError, require
from ringkas.export import onnx_graph, pytorch_folder
from ringkas.export.layout import write_layout
from ringkas.export.model_card import model_card
from ringkas.files import staged_folder, write_json
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.encoder import load
from ringkas.runtimes.parity import ParityReport
from ringkas.runtimes.probe import Probe, save_probe
from ringkas.runtimes.verify import compare, reference_probe, tool_versions
from ringkas.targets import Target, target


@dataclass(frozen=True)
class Written:
    """What a writer left in the folder: the file that the engine opens, and how the weights are stored."""

    model_file: str
    scheme: Mapping[str, object]


@dataclass(frozen=True)
class Built:
    """An artifact and the parity report that it was built with."""

    artifact: Artifact
    report: ParityReport


Writer = Callable[[Checkpoint, Target, Path], Written]


def _write_onnx(checkpoint: Checkpoint, target: Target, folder: Path) -> Written:
    model_file = onnx_graph.write_graph(checkpoint, target.precision, folder)
    return Written(model_file, {"weights": target.precision, "opset": onnx_graph.OPSET})


def _write_pytorch(checkpoint: Checkpoint, target: Target, folder: Path) -> Written:
    return Written(pytorch_folder.write_weights(checkpoint, folder), {"weights": target.precision})


# By the engine that will run the artifact.
WRITERS: Mapping[str, Writer] = {"onnxruntime": _write_onnx, "pytorch": _write_pytorch}
# The extra, and the modules of it, that converting for an engine needs: asked for before any work is done.
NEEDED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "onnxruntime": ("export", ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxruntime")),
    "pytorch": ("export", ("torch", "transformers", "safetensors")),
}


def build(
    model: str | Path,
    target: str,
    out: str | Path,
    *,
    revision: str | None = None,
    overwrite: bool = False,
    progress: Progress = QUIET,
) -> Artifact:
    """Converts `model` to one `target` in the folder `out/<target>` and verifies it.

    Args:
        model: a checkpoint folder, a hub id, or `demo`.
        target: for example `onnx-fp32`.
        out: the folder that gets the artifact.
        revision: the hub's branch, tag or commit.
        overwrite: replace an artifact that is there.

    Raises:
        RingkasError: bad input; nothing is left half-written.
        ArtifactError: the artifact was built, but its parity fell short. It is kept, marked as failed.
    """
    checkpoint = open_checkpoint(model, revision)
    built = build_all(checkpoint, [target], out, overwrite=overwrite, progress=progress)[0]
    if not built.report.passed:
        raise ArtifactError(
            f"{built.artifact.path} was built, but its parity fell short",
            why="; ".join(built.report.failures[:3]),
            fix="ringkas.load(..., allow_failed=True) opens it all the same",
        )
    return built.artifact


def build_all(
    checkpoint: Checkpoint,
    targets: Sequence[str],
    out: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress = QUIET,
) -> list[Built]:
    """Converts one checkpoint to several targets; the reference is run once for all of them."""
    chosen = [target(name) for name in dict.fromkeys(targets)]
    if not chosen:
        raise TargetError("no target is named", fix="Name one, for example: --target onnx-fp32")
    for extra, modules in {one.engine: NEEDED[one.engine] for one in chosen}.values():
        require(extra, *modules)
    out = Path(out)
    if not overwrite:
        _refuse_existing(out / target.name for target in chosen)
    with progress.stage(f"encoding the probe set with PyTorch ({checkpoint.name})"):
        probe = reference_probe(checkpoint, checkpoint.languages)
    built = []
    for one in chosen:
        with staged_folder(out / one.name, overwrite=overwrite) as folder:
            report = _build_one(checkpoint, one, probe, folder, progress)
        built.append(Built(open_artifact(out / one.name), report))
    return built


def _build_one(
    checkpoint: Checkpoint, target: Target, probe: Probe, folder: Path, progress: Progress
) -> ParityReport:
    with progress.stage(f"writing {target.name}"):
        write_layout(checkpoint, folder)
        written = WRITERS[target.engine](checkpoint, target, folder)
        save_probe(probe, folder)
        manifest = Manifest(
            name=checkpoint.name,
            target=target.name,
            engine=target.engine,
            precision=target.precision,
            source=Source(checkpoint.origin, checkpoint.revision, checkpoint.licence),
            encoding=checkpoint.spec,
            model_file=written.model_file,
            scheme=dict(written.scheme),
            languages=checkpoint.languages,
            tools=tool_versions(),
        )
        (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")
        artifact = seal(folder, manifest)
    with progress.stage(f"verifying {target.name}"), load(artifact) as encoder:
        report = compare(artifact, encoder, probe)
    write_json(folder / PARITY_FILE, report)
    return report


def _refuse_existing(places: Iterable[Path]) -> None:
    for place in places:
        if place.exists():
            raise ArtifactError(f"{place} exists", fix="Add --overwrite, or choose another folder")
