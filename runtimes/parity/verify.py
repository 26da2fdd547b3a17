"""`ringkas verify`: an artifact against its reference, on any machine that can run it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from ringkas import texts as text_sets
from ringkas.artifact import PARITY_FILE, Artifact, Source, open_artifact
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.errors import ArtifactError, TextError
from ringkas.files import write_json
from ringkas.machine import tool_versions
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.encoder import Encoder, load, load_reference_encoder
from ringkas.runtimes.parity.floors import floor_of
from ringkas.runtimes.parity.judge import Judged, ParityReport, Sample, cosine, judge
from ringkas.runtimes.parity.probe import Probe, load_probe, make_probe
from ringkas.runtimes.parity.search import compare_search, make_search_probe, search_failures
from ringkas.runtimes.parity.witness import NOBODY, TOO_LARGE, claim, hear, remarks_on, say
from ringkas.text_files import read_texts
from ringkas.tokens import TextTokenizer
from ringkas.vocabulary import KEPT_IDS_FILE, load_kept_ids

# The cosine of one model's vector, stored in float16, with the same from another machine: above it by far.
_SAME_MODEL = 0.9999


def verify(  # noqa: PLR0913 (the command line's own options)
    artifact: str | Path | Artifact,
    *,
    variant: str | None = None,
    reference: str | Path | None = None,
    witness: bool = True,
    texts: Iterable[str | Path] = (),
    record: bool = True,
    threads: int | None = None,
    progress: Progress = QUIET,
) -> ParityReport:
    """Compares an artifact with its PyTorch reference and records the report as its `parity.json`.

    Args:
        artifact: its folder, or a bundle's.
        variant: the target of the one that is meant, where a bundle holds several.
        reference: the checkpoint to compare with, a hub id that the artifact was made from at that revision;
            None compares with the vectors stored in the artifact.
        witness: ask the library of `reference` whether it computes the same as our reading of it.
        texts: files of the user's own texts, judged beside the built-in probe set; needs `reference`.
        record: write `parity.json`, unless there are own texts or the reference is not what the artifact was
            made from.

    Raises:
        ArtifactError: the artifact is incomplete or altered.
        TextError: a file of texts cannot be used.
    """
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact, variant)
    opened.check_files()
    own = _own_texts([Path(file) for file in texts])
    if own and reference is None:
        raise TextError(
            "--texts needs --reference",
            why="the artifact holds the reference's vectors for the built-in texts only",
            fix="Add --reference MODEL",
        )
    probe = stored = load_probe(opened.path)
    if reference is not None:
        checkpoint = _open_reference(reference, opened.manifest.source)
        probe = reference_probe(checkpoint, opened.manifest.languages, own, threads, witness, progress)
    with (
        progress.stage(f"verifying {opened.path}"),
        load(opened, threads=threads, check=False, allow_failed=True) as encoder,
    ):
        report = compare(opened, encoder, probe)
    if record and _may_record(_is_source(opened, probe, stored), probe, own, progress):
        try:
            write_json(opened.parity_path, report)
        except OSError as error:  # a read-only medium: the result is as good, only nobody will find it later
            progress.say(f"{PARITY_FILE} could not be written ({error.strerror}); the result stands")
    return report


def _open_reference(reference: str | Path, source: Source) -> Checkpoint:
    made_from = str(reference) == source.model and not Path(reference).exists()
    return open_checkpoint(reference, source.revision if made_from else None, as_embedder=True)


def reference_probe(
    checkpoint: Checkpoint,
    languages: Iterable[str],
    own: Mapping[str, list[str]] | None = None,
    threads: int | None = None,
    witness: bool = True,
    progress: Progress = QUIET,
) -> Probe:
    """The probe set of `languages` and the user's `own` texts, encoded by the reference.

    Its ids are always those of the full vocabulary, also where the reference itself is pruned. With
    `witness` the checkpoint's own library is asked whether it computes the same.

    Raises:
        CheckpointError: it does not, or cannot open the checkpoint.
    """
    texts = text_sets.probe(languages)
    with (
        progress.stage(f"encoding the probe set with PyTorch ({checkpoint.name})"),
        load_reference_encoder(checkpoint, threads=threads) as encoder,
    ):
        probe = make_probe(encoder, {**texts, **(own or {})}, checkpoint.origin)
        claimed = claim(checkpoint, encoder, texts) if witness else None
        search = make_search_probe(encoder, languages)
        remarks = remarks_on(checkpoint, encoder)
    heard = NOBODY if claimed is None else hear(checkpoint, claimed, progress)
    heard = say(msgspec.structs.replace(heard, notes=(*remarks, *heard.notes)), progress)
    token_ids = full_ids(checkpoint, probe.token_ids)
    return replace(probe, token_ids=token_ids, witness=heard, search=search)


def streamed_probe(checkpoint: Checkpoint, languages: Iterable[str], progress: Progress = QUIET) -> Probe:
    """As `reference_probe`, of a checkpoint that is larger than the memory: layer by layer, and unwitnessed.

    Raises:
        CheckpointError: its weights cannot be read tensor by tensor.
    """
    from ringkas.runtimes.streamed import StreamedEngine

    with (
        progress.stage(f"encoding the probe set layer by layer ({checkpoint.name})"),
        Encoder(
            checkpoint.spec, TextTokenizer(checkpoint.path, checkpoint.spec), StreamedEngine(checkpoint)
        ) as encoder,
    ):
        probe = make_probe(encoder, text_sets.probe(languages), checkpoint.origin)
        search = make_search_probe(encoder, languages)
        remarks = remarks_on(checkpoint, encoder)
    heard = say(msgspec.structs.replace(TOO_LARGE, notes=(*remarks, *TOO_LARGE.notes)), progress)
    return replace(probe, token_ids=full_ids(checkpoint, probe.token_ids), witness=heard, search=search)


def full_ids(checkpoint: Checkpoint, token_ids: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """A checkpoint's own token ids as those of the vocabulary that it was cut from, if it was."""
    if checkpoint.vocabulary is None:
        return tuple(tuple(ids) for ids in token_ids)
    kept = load_kept_ids(checkpoint.path)
    return tuple(tuple(kept[list(ids)].tolist()) for ids in token_ids)


def covered_rows(token_ids: Sequence[Sequence[int]], kept: npt.NDArray[np.int64] | None) -> list[int]:
    """Which texts, given by their full ids, have only tokens that were kept; all when none were cut."""
    if kept is None:
        return list(range(len(token_ids)))
    ids = set(kept.tolist())
    return [row for row, tokens in enumerate(token_ids) if ids.issuperset(tokens)]


def compare(artifact: Artifact, encoder: Encoder, probe: Probe) -> ParityReport:
    """Judges `encoder`, opened on `artifact`, by `probe`.

    A pruned vocabulary is judged on the texts that it covers; the others are counted as skipped.
    """
    kept = artifact.kept_ids()
    if kept is not None and len(kept) < encoder.tokenizer.vocabulary_size():
        raise ArtifactError(
            f"{artifact.path / KEPT_IDS_FILE} is not of this artifact's tokenizer",
            why=f"it has {len(kept)} tokens, the tokenizer {encoder.tokenizer.vocabulary_size()}",
            fix="Build or copy the artifact again",
        )
    covered = covered_rows(probe.token_ids, kept)
    skipped = len(probe) - len(covered)
    if skipped:
        probe = probe.select(covered)
    token_ids = encoder.tokenizer.encode(probe.texts) if len(probe) else []
    samples = [
        Sample(group, text, expected, own if kept is None else kept[own].tolist())
        for group, text, expected, own in zip(
            probe.groups, probe.texts, probe.token_ids, token_ids, strict=True
        )
    ]
    manifest = artifact.manifest
    floor = floor_of(manifest.precision, manifest.promised_cosine_min)
    subject = Judged(manifest.target, manifest.engine, probe.reference, floor, tool_versions())
    report = judge(subject, samples, probe.vectors, encoder.encode_ids(token_ids), skipped)
    if not probe.search:
        return report
    search = compare_search(encoder, probe.search)
    failures = report.failures + search_failures(search)
    return msgspec.structs.replace(report, search=search, failures=failures, passed=not failures)


def _may_record(is_source: bool, probe: Probe, own: Mapping[str, list[str]], progress: Progress) -> bool:
    """Whether `ringkas.load` may go by the report: built-in texts only, the artifact's own source."""
    if own:
        progress.say(f"{PARITY_FILE} stays as it was: it holds the verdict on the built-in texts alone")
    elif not is_source:
        progress.say(f"{PARITY_FILE} stays as it was: {probe.reference} is not what this was made from")
    else:
        return True
    return False


def _is_source(artifact: Artifact, probe: Probe, stored: Probe) -> bool:
    """Whether `probe` is of what the artifact was made from: by its name, and by the vectors `stored` then.

    The name of a local folder, or a hub id whose branch has moved, may be another model's today.
    """
    rows = {text: row for row, text in enumerate(stored.texts)}
    both = [(rows[text], row) for row, text in enumerate(probe.texts) if text in rows]
    if probe.reference != artifact.manifest.source.model or not both:
        return False
    then, now = map(list, zip(*both, strict=True))
    return bool(cosine(stored.vectors[then], probe.vectors[now]).min() > _SAME_MODEL)


def _own_texts(files: Iterable[Path]) -> dict[str, list[str]]:
    """The texts of each file, under its bare name; a name that is taken gets a number."""
    own: dict[str, list[str]] = {}
    for file in files:
        lines = read_texts(file)
        if not lines:
            raise TextError(f"{file} holds no text", why="zero texts prove nothing")
        name, number = file.name, 2
        while name in own or name in (*text_sets.LANGUAGES, text_sets.UNDETERMINED):
            name, number = f"{file.name} ({number})", number + 1
        own[name] = lines
    return own
