"""`ringkas build`: checkpoint in, verified artifacts out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ringkas.artifact import PARITY_FILE, Artifact, Manifest, Source, open_artifact, seal
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.errors import ArtifactError, MissingExtra, TargetError, require
from ringkas.export import to_pytorch as pytorch_folder
from ringkas.export.layout import write_layout
from ringkas.export.model_card import model_card, state_search
from ringkas.export.to_gguf import write_gguf
from ringkas.export.to_onnx import graph as onnx_graph
from ringkas.export.to_onnx.quantized import write_quantized
from ringkas.export.to_tensorrt.finish import finish_build, profiles_for
from ringkas.export.to_tensorrt.graph import write_typed_graph
from ringkas.export.to_tensorrt.plan import PlanOptions, check_options
from ringkas.export.vocabulary.counting import calibration_texts
from ringkas.export.vocabulary.prune import PruneOptions, prune_checkpoint
from ringkas.files import refuse_existing, scratch_folder, staged_folder, write_json
from ringkas.progress import QUIET, Progress
from ringkas.quantize.for_onnx.schemes import SCHEMES, OnnxScheme
from ringkas.quantize.for_tensorrt.schemes import TENSORRT_ENGINES, tensorrt_scheme
from ringkas.runtimes.encoder import load
from ringkas.runtimes.engines.tensorrt_library import LIBRARIES, find_library
from ringkas.runtimes.engines.tensorrt_record import DEFERRED
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.runtimes.parity.probe import Probe, save_probe
from ringkas.runtimes.parity.verify import compare, reference_probe, tool_versions
from ringkas.runtimes.parity.witness import require_witness
from ringkas.targets import Target, target


@dataclass(frozen=True)
class Written:
    """What a writer left in the folder: the file that the engine opens, how the weights are stored, and what
    is still to be done where that is not all."""

    model_file: str
    scheme: Mapping[str, object]
    execution: str = ""


@dataclass(frozen=True)
class Built:
    """An artifact and the parity report that it was built with."""

    artifact: Artifact
    report: ParityReport


Writer = Callable[[Checkpoint, Target, Path, Progress], Written]


def _write_onnx(
    checkpoint: Checkpoint,
    target: Target,
    folder: Path,
    progress: Progress,
    options: BuildOptions | None = None,
) -> Written:
    options = options or BuildOptions()
    file = onnx_graph.TRANSFORMERS_JS_FILES[target.name] if options.transformers_js else onnx_graph.MODEL_FILE
    scheme = options.scheme or SCHEMES.get(target.name)
    if scheme is not None:
        return Written(*write_quantized(checkpoint, scheme, folder, file))
    onnx_graph.write_graph(checkpoint, target.precision, folder, file)
    return Written(file, {"weights": target.precision, "opset": onnx_graph.OPSET})


def _write_pytorch(checkpoint: Checkpoint, target: Target, folder: Path, progress: Progress) -> Written:
    return Written(pytorch_folder.write_weights(checkpoint, folder), {"weights": target.precision})


def _write_gguf(checkpoint: Checkpoint, target: Target, folder: Path, progress: Progress) -> Written:
    result = write_gguf(checkpoint, target.name, folder, progress)
    for warning in result.warnings:
        progress.say(f"{target.name}: {warning}")
    return Written(result.model_file, result.scheme)


def _write_tensorrt(checkpoint: Checkpoint, target: Target, folder: Path, progress: Progress) -> Written:
    return Written(*write_typed_graph(checkpoint, target.name, folder), execution=DEFERRED)


# By the engine that will run the artifact.
WRITERS: Mapping[str, Writer] = {
    "llama.cpp": _write_gguf,
    "onnxruntime": _write_onnx,
    "pytorch": _write_pytorch,
    "tensorrt": _write_tensorrt,
    "tensorrt-rtx": _write_tensorrt,
}
_ONNX_MODULES = ("torch", "transformers", "onnx", "onnx_ir", "onnxscript", "onnxruntime")
# The extra, and the modules of it, that converting for an engine needs: asked for before any work is done.
NEEDED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "onnxruntime": ("export,onnx", _ONNX_MODULES),
    "llama.cpp": ("export,gguf", ("torch", "transformers", "gguf", "llama_cpp")),
    "pytorch": ("export", ("torch", "transformers", "safetensors")),
    # Of the graph, and of ONNX Runtime, its oracle; the builder is asked for by `_check_plan`.
    "tensorrt": ("export,onnx", _ONNX_MODULES),
    "tensorrt-rtx": ("export,onnx", _ONNX_MODULES),
}


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Args:
        overwrite: replace artifacts that are there.
        prune: cut the vocabulary first; the artifacts are then compared with the full model.
        scheme: how to quantise, in place of the target's own scheme.
        transformers_js: name the graphs as transformers.js looks for them.
        plan: how to build TensorRT plans, for targets that have one.
        witness: ask the checkpoint's own library whether it computes the same as the reference.
    """

    overwrite: bool = False
    prune: PruneOptions | None = None
    scheme: OnnxScheme | None = None
    transformers_js: bool = False
    plan: PlanOptions = field(default_factory=PlanOptions)
    witness: bool = True


def build(  # noqa: PLR0913 (the command line's own options)
    model: str | Path,
    target: str,
    out: str | Path,
    *,
    languages: Sequence[str] = (),
    corpus: Mapping[str, Sequence[str | Path]] | None = None,
    max_tokens: int | None = None,
    revision: str | None = None,
    as_embedder: bool = False,
    overwrite: bool = False,
    scheme: OnnxScheme | None = None,
    witness: bool = True,
    progress: Progress = QUIET,
) -> Artifact:
    """Converts `model` to one `target` in the folder `out/<target>` and verifies it.

    Args:
        model: a checkpoint folder, a hub id, or `demo`.
        target: for example `onnx-fp32`.
        out: the folder that gets the artifact.
        languages: cut the vocabulary to these first, for example ("ko", "en"); none keeps all of it.
        corpus: files of text by language, which choose the tokens together with the word lists.
        max_tokens: keep at most so many rows of the vocabulary.
        revision: the hub's branch, tag or commit.
        as_embedder: the encoder of a classifier, reranker or tagger is meant.
        overwrite: replace an artifact that is there.
        scheme: how to quantise, in place of the target's own scheme (`quantize.scheme_file` reads one).
        witness: ask the checkpoint's own library whether it computes the same as the reference.

    Raises:
        RingkasError: bad input; nothing is left half-written.
        ArtifactError: the artifact was built, but its parity fell short. It is kept, marked as failed.
    """
    checkpoint = open_checkpoint(model, revision, as_embedder=as_embedder)
    pruning = prune_options(languages, corpus or {}, max_tokens)
    options = BuildOptions(overwrite, pruning, scheme, witness=witness)
    built = build_all(checkpoint, [target], out, options, progress)[0]
    if not built.report.passed:
        raise ArtifactError(
            f"{built.artifact.path} was built, but its parity fell short",
            why="; ".join(built.report.failures[:3]),
            fix="ringkas.load(..., allow_failed=True) opens it all the same",
        )
    return built.artifact


def prune_options(
    languages: Sequence[str], corpus: Mapping[str, Sequence[str | Path]], max_tokens: int | None = None
) -> PruneOptions | None:
    """The options of a build's pruning; None when no languages are named.

    Raises:
        TargetError: there is a corpus or a limit, but no languages.
    """
    if languages:
        corpora = {tag: tuple(Path(file) for file in files) for tag, files in corpus.items()}
        return PruneOptions(tuple(languages), corpora, max_tokens)
    if corpus or max_tokens is not None:
        raise TargetError(
            "a corpus or a limit of tokens is of use only with languages", fix="Add --languages, or drop it"
        )
    return None


def build_all(
    checkpoint: Checkpoint,
    targets: Sequence[str],
    out: str | Path,
    options: BuildOptions | None = None,
    progress: Progress = QUIET,
) -> list[Built]:
    """Converts one checkpoint to several targets; the reference is run once for all of them."""
    options = options or BuildOptions()
    chosen = [target(name) for name in dict.fromkeys(targets)]
    if not chosen:
        raise TargetError("no target is named", fix="Name one, for example: --target onnx-fp32")
    _check_options(chosen, options)
    require_engines(chosen)
    if options.witness:
        require_witness(checkpoint)
    for one in chosen:
        if one.engine in TENSORRT_ENGINES:
            _check_plan(checkpoint, one, options.plan)
    out = Path(out)
    refuse_existing([out / target.name for target in chosen], overwrite=options.overwrite)
    with pruned(checkpoint, options.prune, out, progress) as source:
        probe = reference_probe(checkpoint, source.languages, witness=options.witness, progress=progress)
        built = []
        for one in chosen:
            with staged_folder(out / one.name, overwrite=options.overwrite) as folder:
                artifact = _write_one(source, one, _writer(one, options), probe, folder, progress)
                if one.engine in TENSORRT_ENGINES:
                    report = finish_build(source, artifact, probe, options.plan, progress)
                else:
                    report = judge(artifact, probe, progress)
            built.append(Built(open_artifact(out / one.name), report))
    return built


def _check_options(targets: Sequence[Target], options: BuildOptions) -> None:
    scheme = options.scheme
    if scheme is not None and [one.name for one in targets] != [scheme.target]:
        raise TargetError(
            f"the scheme is for {scheme.target}", fix=f"Build that target alone: {scheme.target}"
        )
    strange = [one.name for one in targets if one.name not in onnx_graph.TRANSFORMERS_JS_FILES]
    if options.transformers_js and strange:
        raise TargetError(
            f"transformers.js cannot read {strange[0]}",
            fix="It reads: " + ", ".join(onnx_graph.TRANSFORMERS_JS_FILES),
        )


def require_engines(targets: Sequence[Target]) -> None:
    """Asks for the packages that converting to `targets` needs.

    Raises:
        MissingExtra: one is not installed.
    """
    for extra, modules in {one.engine: NEEDED[one.engine] for one in targets}.values():
        require(extra, *modules)


@contextmanager
def pruned(
    checkpoint: Checkpoint, options: PruneOptions | None, out: Path, progress: Progress
) -> Iterator[Checkpoint]:
    """The checkpoint cut to its languages, in a folder in `out` that goes with the build; or as it is."""
    if options is None:
        yield checkpoint
        return
    with scratch_folder(out) as folder:
        pruned = prune_checkpoint(checkpoint, options, folder / "pruned", progress=progress)
        yield replace(
            pruned, source=checkpoint.source, origin=checkpoint.origin, revision=checkpoint.revision,
            licence=checkpoint.licence,
            calibration_texts={tag: calibration_texts(files) for tag, files in options.corpora.items()},
        )  # fmt: skip


def _writer(target: Target, options: BuildOptions) -> Writer:
    if target.engine == "onnxruntime":
        return partial(_write_onnx, options=options)
    return WRITERS[target.engine]


def _check_plan(checkpoint: Checkpoint, target: Target, options: PlanOptions) -> None:
    """What can be said of a plan before the graph is written: the builder, its options, the profiles."""
    library = LIBRARIES[target.engine]
    if not options.defer and find_library(target.engine, building=True) is None:
        raise MissingExtra(library.name, library.extra)
    check_options(target.engine, tensorrt_scheme(target.name), options)
    profiles_for(checkpoint.path, checkpoint.spec, options)


def _write_one(
    checkpoint: Checkpoint, target: Target, writer: Writer, probe: Probe, folder: Path, progress: Progress
) -> Artifact:
    with progress.stage(f"writing {target.name}"):
        write_layout(checkpoint, folder)
        written = writer(checkpoint, target, folder, progress)
        return finish(checkpoint, target, written, probe, folder)


def finish(
    checkpoint: Checkpoint,
    target: Target,
    written: Written,
    probe: Probe,
    folder: Path,
    promise: float | None = None,
) -> Artifact:
    """What makes a written folder an artifact: the probe, the model card, the manifest.

    `promise` is the cosine minimum that was asked for, where it was: parity is then judged by it too.
    """
    save_probe(probe, folder)
    manifest = Manifest(
        name=checkpoint.name,
        target=target.name,
        engine=target.engine,
        precision=target.precision,
        source=Source(checkpoint.origin, checkpoint.revision, checkpoint.licence, checkpoint.note),
        encoding=checkpoint.spec,
        model_file=written.model_file,
        scheme=dict(written.scheme),
        languages=checkpoint.languages,
        vocabulary=checkpoint.vocabulary,
        tools=tool_versions(),
        promised_cosine_min=promise,
        execution=written.execution,
        witness=probe.witness,
    )
    (folder / "README.md").write_text(model_card(manifest), encoding="utf-8")
    return seal(folder, manifest)


def judge(artifact: Artifact, probe: Probe, progress: Progress) -> ParityReport:
    """Runs the artifact on the probe set and leaves the report beside it."""
    with progress.stage(f"verifying {artifact.manifest.target}"), load(artifact) as encoder:
        report = compare(artifact, encoder, probe)
    state_search(artifact, report)
    write_json(artifact.path / PARITY_FILE, report)
    return report
