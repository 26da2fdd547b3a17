"""The command that makes an artifact again, as its manifest tells it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from ringkas.artifact import MANIFEST_FILE, Artifact, Manifest
from ringkas.builtin import BUILT_IN
from ringkas.export.to_onnx.graph import FLAT_FILE, MODEL_FILE
from ringkas.quantize.for_onnx.schemes import SCHEMES
from ringkas.runtimes.engines.tensorrt_record import PlanRecord, read_record

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Recipe:
    """The arguments of `ringkas`, and what a manifest cannot know of them."""

    arguments: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def command(self) -> str:
        """One line for a shell."""
        return shlex.join(("ringkas", *self.arguments))


def recipe_of(artifact: Artifact) -> Recipe:
    """How the artifact is made again, into a folder `again`."""
    manifest = artifact.manifest
    source, notes = manifest.source, list[str]()
    model = source.model
    if model not in BUILT_IN and not (source.revision and _HUB_ID.fullmatch(model)):
        notes.append(f"{model} was a folder: put its place, with what it held then")
    arguments = ["build", model]
    if source.revision and model not in BUILT_IN:
        arguments += ["--revision", source.revision]
    arguments += _form(artifact)
    cut, missing = _vocabulary(manifest)
    arguments += cut
    notes += missing
    if manifest.model_file == FLAT_FILE:
        arguments.append("--flat")
    if manifest.model_file.startswith("onnx/") and manifest.model_file != MODEL_FILE:
        arguments.append("--transformers-js")
    if manifest.scheme.get("single_file"):
        arguments.append("--single-file")
    record = read_record(manifest.scheme)
    if record is not None:
        arguments += _plan(record)
        if record.gpu:
            notes.append(f"the plan was built on {record.gpu}: another GPU makes another")
    if manifest.promised_cosine_min is not None:
        notes.append("it was found by a search for a wish: the form is made again, not the search")
    return Recipe((*arguments, "--out", "again"), tuple(notes))


def _form(artifact: Artifact) -> Iterator[str]:
    """Its target, or where the scheme is not the target's own, the manifest itself as the scheme's file."""
    manifest = artifact.manifest
    usual = SCHEMES.get(manifest.target)
    if usual is not None:
        own: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(usual))
        own = {name: value for name, value in own.items() if name not in ("target", "activations")}
        if any(manifest.scheme.get(name, value) != value for name, value in own.items()):
            yield from ("--scheme", str(artifact.path / MANIFEST_FILE))
            return
    yield from ("--target", manifest.target)


def _vocabulary(manifest: Manifest) -> tuple[list[str], list[str]]:
    """The options that cut the vocabulary, and what the certificate does not hold of them.

    A checkpoint that was cut before is named by the source already.
    """
    certificate: dict[str, Any] = manifest.vocabulary or {}
    if not certificate or certificate.get("source", {}).get("model") != manifest.source.model:
        return [], []
    chosen = certificate["selection"]
    options, notes = ["--languages", ",".join(certificate["languages"])], []
    if chosen.get("max_tokens") is not None:
        options += ["--max-tokens", str(chosen["max_tokens"])]
    if chosen.get("weights"):
        weights = ",".join(f"{tag}={weight:g}" for tag, weight in chosen["weights"].items())
        options += ["--weights", weights]
    with_corpus = [tag for tag, used in chosen.get("sources", {}).items() if used.get("corpus_texts")]
    for tag in with_corpus:
        options += ["--corpus", f"{tag}=FILE"]
    if with_corpus:
        notes.append(f"your own text chose tokens of {', '.join(with_corpus)}: put its files for FILE")
    return options, notes


def _plan(record: PlanRecord) -> Iterator[str]:
    for profile in record.profiles:
        yield from ("--profile", profile)
    if record.version_compatible:
        yield "--version-compatible"
    if record.portable:
        yield "--hardware-compatible"
