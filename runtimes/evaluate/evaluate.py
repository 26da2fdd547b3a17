"""`ringkas evaluate`: what an artifact is worth at search and similarity, beside its reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from ringkas.artifact import Artifact, open_artifact
from ringkas.checkpoint import open_checkpoint
from ringkas.errors import ArtifactError, TextError
from ringkas.machine import tool_versions
from ringkas.progress import QUIET, Progress
from ringkas.runtimes.encoder import load, load_reference_encoder
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.evaluate.data import PairSet, RetrievalSet, read_beir, read_pairs
from ringkas.runtimes.evaluate.exact_search import pairwise, search
from ringkas.runtimes.evaluate.metrics import (
    RECALL_AT,
    Floats,
    RetrievalScores,
    mean_interval,
    mean_scores,
    score_ranking,
)
from ringkas.runtimes.parity.judge import spearman
from ringkas.spec import EncodingSpec

SCHEMA_VERSION = 1

# Documents that are encoded and searched at a time.
_BLOCK = 4096

# The prompts for judging how alike two texts are, best first: SEA-LION's, then E5's advice to use `query` on
# both sides of symmetric tasks.
_PAIR_PROMPTS = ("STS", "query")


class TextEncoder(Protocol):
    """What is evaluated: the facade, or anything with its verbs."""

    @property
    def spec(self) -> EncodingSpec: ...

    def encode(self, texts: list[str], *, prompt: str | None = None) -> Vectors: ...

    def encode_query(self, texts: list[str]) -> Vectors: ...

    def encode_document(self, texts: list[str]) -> Vectors: ...


@dataclass(frozen=True)
class Material:
    """What to judge on; either may be absent."""

    retrieval: RetrievalSet | None = None
    pairs: PairSet | None = None


class RetrievalReport(msgspec.Struct, frozen=True):
    """`difference` is the artifact's scores less the reference's, with the 95% interval of that mean.

    `left_out` counts the queries whose own id is a document's too. Such a document is left out of that
    query's ranking, as BEIR does, unless it is judged for it.
    """

    folder: str
    documents: int
    queries: int
    left_out: int
    artifact: RetrievalScores
    reference: RetrievalScores | None = None
    difference: RetrievalScores | None = None
    difference_low: RetrievalScores | None = None
    difference_high: RetrievalScores | None = None


class PairReport(msgspec.Struct, frozen=True):
    """Spearman's correlation of the cosines with people's scores."""

    file: str
    pairs: int
    artifact: float
    reference: float | None = None
    difference: float | None = None


class EvaluationReport(msgspec.Struct, frozen=True):
    """The whole run. `prompts` are the names used for queries, documents and pairs; None means none.

    `parity` is the newest verdict that stands in the artifact, if there is one: quality can be measured of
    an artifact that fell short, and is then worth knowing. `compared_by` is the checkpoint's own similarity.
    """

    artifact: str
    target: str
    engine: str
    parity: bool | None
    reference: str | None
    prompts: dict[str, str | None]
    retrieval: RetrievalReport | None
    similarity: PairReport | None
    tools: dict[str, str]
    compared_by: str = "cosine"
    schema_version: int = SCHEMA_VERSION


def evaluate(
    artifact: str | Path | Artifact,
    material: Material,
    *,
    reference: str | Path | None = None,
    threads: int | None = None,
    progress: Progress = QUIET,
) -> EvaluationReport:
    """Searches and compares with the artifact and, if one is named, with the PyTorch `reference`.

    Raises:
        ArtifactError: it is incomplete, or gave a vector that is no number.
        TextError: there is nothing to judge on.
    """
    if material.retrieval is None and material.pairs is None:
        raise TextError("there is nothing to evaluate on", fix="Name --beir FOLDER, --sts FILE, or both")
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    base = None
    if reference is not None:
        with load_reference_encoder(open_checkpoint(reference, as_embedder=True), threads=threads) as encoder:
            base = _evaluated(encoder, material, f"the reference {reference}", progress)
    with load(opened, threads=threads, allow_failed=True) as encoder:
        own = _evaluated(encoder, material, str(opened.path), progress)
    verdict, spec = opened.parity(), opened.manifest.encoding
    return EvaluationReport(
        artifact=str(opened.path),
        target=opened.manifest.target,
        engine=opened.manifest.engine,
        parity=verdict.passed if verdict else None,
        reference=None if reference is None else str(reference),
        prompts={
            "query": spec.query_prompt(),
            "document": spec.document_prompt(),
            "pair": _pair_prompt(spec),
        },
        retrieval=_retrieval_report(material.retrieval, own, base),
        similarity=_pair_report(material.pairs, own, base),
        tools=tool_versions(),
        compared_by=spec.similarity,
    )


def read_material(beir: Path | None, split: str, pairs: Path | None) -> Material:
    """Reads what the command line names."""
    return Material(
        None if beir is None else read_beir(beir, split), None if pairs is None else read_pairs(pairs)
    )


def retrieval_scores(encoder: TextEncoder, material: RetrievalSet, progress: Progress = QUIET) -> Floats:
    """nDCG@10, MRR@10 and recall@100 of every query, in the order of `material.queries`: (queries, 3)."""
    queries = _checked(encoder.encode_query(list(material.queries.values())), encoder.spec.similarity)
    rankings = search(
        queries,
        _document_blocks(encoder, material, progress),
        material.document_ids,
        RECALL_AT,
        own_documents(material),
        encoder.spec.similarity,
    )
    scores = map(score_ranking, rankings, material.judgements.values())
    return np.array([msgspec.structs.astuple(one) for one in scores])


def pair_score(encoder: TextEncoder, material: PairSet) -> float:
    """Spearman's correlation of the pairs' similarities, as the checkpoint compares, with their scores."""
    prompt = _pair_prompt(encoder.spec) or ""
    first, second = (
        _checked(encoder.encode(list(texts), prompt=prompt), encoder.spec.similarity)
        for texts in (material.first, material.second)
    )
    return spearman(pairwise(first, second, encoder.spec.similarity), material.scores)


def own_documents(material: RetrievalSet) -> list[str | None]:
    """For each query the document with its own id, which it may not find unless it is judged for it."""
    known = frozenset(material.document_ids)
    return [
        key if key in known and key not in judged else None for key, judged in material.judgements.items()
    ]


@dataclass(frozen=True)
class _Evaluated:
    retrieval: Floats | None
    similarity: float | None


def _evaluated(encoder: TextEncoder, material: Material, name: str, progress: Progress) -> _Evaluated:
    retrieval = similarity = None
    if material.retrieval is not None:
        with progress.stage(f"searching with {name}"):
            retrieval = retrieval_scores(encoder, material.retrieval, progress)
    if material.pairs is not None:
        with progress.stage(f"comparing pairs with {name}"):
            similarity = pair_score(encoder, material.pairs)
    return _Evaluated(retrieval, similarity)


def _document_blocks(encoder: TextEncoder, material: RetrievalSet, progress: Progress) -> Iterator[Vectors]:
    count, done = len(material.document_ids), 0
    for block in _chunks(material.documents()):
        yield _checked(encoder.encode_document(block), encoder.spec.similarity)
        done += len(block)
        if count > _BLOCK:
            progress.say(f"{done} of {count} documents")


def _chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while block := list(islice(texts, _BLOCK)):
        yield block


def _checked(vectors: Vectors, similarity: str) -> Vectors:
    """Vectors to be compared by `similarity`: for a cosine of length one, so that it is a dot product.

    Raises:
        ArtifactError: one is no number, and would be ranked anyhow.
    """
    if not np.isfinite(vectors).all():
        raise ArtifactError("an engine gave a vector that is no number", fix="Run: ringkas verify")
    if similarity != "cosine":
        return vectors
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit


def _retrieval_report(
    material: RetrievalSet | None, own: _Evaluated, base: _Evaluated | None
) -> RetrievalReport | None:
    if material is None or own.retrieval is None:
        return None
    report = RetrievalReport(
        folder=str(material.folder),
        documents=len(material.document_ids),
        queries=len(material.queries),
        left_out=sum(key is not None for key in own_documents(material)),
        artifact=mean_scores(own.retrieval),
    )
    if base is None or base.retrieval is None:
        return report
    difference = own.retrieval - base.retrieval
    low, high = mean_interval(difference)
    return msgspec.structs.replace(
        report,
        reference=mean_scores(base.retrieval),
        difference=mean_scores(difference),
        difference_low=low,
        difference_high=high,
    )


def _pair_report(material: PairSet | None, own: _Evaluated, base: _Evaluated | None) -> PairReport | None:
    if material is None or own.similarity is None:
        return None
    report = PairReport(str(material.file), len(material.scores), own.similarity)
    if base is None or base.similarity is None:
        return report
    return msgspec.structs.replace(
        report, reference=base.similarity, difference=own.similarity - base.similarity
    )


def _pair_prompt(spec: EncodingSpec) -> str | None:
    return next((name for name in _PAIR_PROMPTS if name in spec.prompts), None)
