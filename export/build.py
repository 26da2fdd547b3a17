"""`ringkas build`: checkpoint in, verified artifacts out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path

from ringkas import cache
from ringkas.artifact import Artifact, open_artifact
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.errors import ArtifactError, TargetError
from ringkas.export.finish import Job, Shared, make, writer_of
from ringkas.export.memory import float32_bytes, is_streamed, require_memory
from ringkas.export.to_onnx.graph import TRANSFORMERS_JS_FILES
from ringkas.export.to_tensorrt.plan import PlanOptions
from ringkas.export.vocabulary.counting import calibration_texts
from ringkas.export.vocabulary.prune import PruneOptions, prune_checkpoint
from ringkas.extras import require_part
from ringkas.files import refuse_existing, scratch_folder, staged_folder
from ringkas.progress import QUIET, Progress
from ringkas.quantize.for_onnx.schemes import OnnxScheme
from ringkas.runtimes.parity.beside import probing
from ringkas.runtimes.parity.judge import ParityReport
from ringkas.runtimes.parity.probe import Probe
from ringkas.runtimes.parity.verify import streamed_probe
from ringkas.runtimes.parity.witness import require_witness
from ringkas.targets import Target, target

_FEW = 8  # bits: with more, nothing is calibrated


@dataclass(frozen=True)
class Built:
    """An artifact and the parity report that it was built with."""

    artifact: Artifact
    report: ParityReport


@dataclass(frozen=True)
class BuildOptions:
    """How to build.

    Args:
        overwrite: replace artifacts that are there.
        prune: cut the vocabulary first; the artifacts are then compared with the full model.
        scheme: how to quantise, in place of the target's own scheme.
        transformers_js: name the graphs as transformers.js looks for them.
        single_file: keep a graph's weights in the graph, for clients that open it from bytes.
        flat: the graph at the folder's root, with an input `token_type_ids` that changes nothing.
        plan: how to build TensorRT plans, for targets that have one.
        witness: ask the checkpoint's own library whether it computes the same as the reference.
        memory: bytes that the float32 weights may take; a checkpoint of more is read tensor by tensor, for
            targets that can be made so. None takes the machine's memory.
    """

    overwrite: bool = False
    prune: PruneOptions | None = None
    scheme: OnnxScheme | None = None
    transformers_js: bool = False
    single_file: bool = False
    flat: bool = False
    plan: PlanOptions = field(default_factory=PlanOptions)
    witness: bool = True
    memory: int | None = None


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
    languages: Sequence[str],
    corpus: Mapping[str, Sequence[str | Path]],
    max_tokens: int | None = None,
    weights: Mapping[str, float] | None = None,
) -> PruneOptions | None:
    """The options of a build's pruning; None when no languages are named.

    Raises:
        TargetError: there is a corpus, a limit or a weight, but no languages.
    """
    if languages:
        corpora = {tag: tuple(Path(file) for file in files) for tag, files in corpus.items()}
        return PruneOptions(tuple(languages), corpora, max_tokens, weights=weights or {})
    if corpus or weights or max_tokens is not None:
        raise TargetError(
            "a corpus, weights or a limit of tokens are of use only with languages",
            fix="Add --languages, or drop them",
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
    cache.most_bytes()  # what it says is refused before any work
    _check_options(chosen, options)
    require_engines(chosen)
    require_memory(checkpoint, chosen, options.memory)
    streamed = is_streamed(checkpoint, options.memory)
    if options.witness and not streamed:
        require_witness(checkpoint)
    for one in chosen:
        writer_of(one).check(checkpoint, one, options)
    out = Path(out)
    refuse_existing([out / target.name for target in chosen], overwrite=options.overwrite)
    with (
        pruned(checkpoint, options.prune, out, progress) as source,
        # The reference is the model as it was before the cut, which is what the artifact is held against.
        _probing(
            replace(checkpoint, languages=source.languages), options, progress, streamed=streamed
        ) as probe,
    ):
        built: dict[str, Built] = {}
        shared = Shared()
        # The fewest bits take longest to write, time in which the probe is made beside it; of one format they
        # come together, for the next may go on from what the one before it was calibrated on.
        order = sorted(chosen, key=lambda one: (one.bits > _FEW, one.format.writer, one.bits))
        for one, following in zip_longest(order, order[1:]):
            with staged_folder(out / one.name, overwrite=options.overwrite) as folder:
                report = make(Job(source, one, folder, options, progress, following, shared), probe)
            built[one.name] = Built(open_artifact(out / one.name), report)
    return [built[one.name] for one in chosen]


@contextmanager
def _probing(
    checkpoint: Checkpoint, options: BuildOptions, progress: Progress, *, streamed: bool
) -> Iterator[Callable[[], Probe]]:
    """What gives the probe set as the reference encodes it, which may be done beside the writing."""
    if streamed:
        probe = streamed_probe(checkpoint, checkpoint.languages, progress)
        yield lambda: probe
        return
    bytes_needed = float32_bytes(checkpoint)
    with probing(checkpoint, bytes_needed, witness=options.witness, progress=progress) as given:
        yield given


def _check_options(targets: Sequence[Target], options: BuildOptions) -> None:
    scheme = options.scheme
    if scheme is not None and [one.name for one in targets] != [scheme.target]:
        raise TargetError(
            f"the scheme is for {scheme.target}", fix=f"Build that target alone: {scheme.target}"
        )
    strange = [one.name for one in targets if one.name not in TRANSFORMERS_JS_FILES]
    if options.single_file and strange:
        raise TargetError(
            f"{strange[0]} has no ONNX graph to keep in one file",
            fix="Leave --single-file out, or choose from: " + ", ".join(TRANSFORMERS_JS_FILES),
        )
    if options.flat and (strange or options.transformers_js):
        raise TargetError(
            f"{strange[0]} has no ONNX graph to put at the root" if strange
            else "--flat and --transformers-js name one graph in two ways",
            fix="Leave --flat out, or choose from: " + ", ".join(TRANSFORMERS_JS_FILES),
        )  # fmt: skip
    if options.transformers_js and strange:
        raise TargetError(
            f"transformers.js cannot read {strange[0]}",
            fix="It reads: " + ", ".join(TRANSFORMERS_JS_FILES),
        )


def require_engines(targets: Sequence[Target]) -> None:
    """Asks for the packages that converting to `targets` needs.

    Raises:
        MissingExtra: one is not installed.
    """
    for part in dict.fromkeys(one.format.needs for one in targets):
        require_part(part)


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
