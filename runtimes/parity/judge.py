"""Parity: how far an artifact's vectors are from the reference's, judged against the floors.

Token ids are compared first, because a wrong tokenizer makes every other number meaningless. Cosines are
reported plain and after subtracting the reference's mean vector: E5 vectors crowd between 0.7 and 1.0, so
that the plain cosine flatters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from ringkas.errors import ArtifactError
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.parity.floors import Floor
from ringkas.runtimes.parity.neighbours import NEIGHBOURS, rounded_alike, share_kept, similarities
from ringkas.runtimes.parity.search import SearchParity

# Ranks are compared among at most this many texts, evenly spaced: the work grows with the square.
MAX_RANKED = 2000
_EXCERPT = 80
_FEWEST = 3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """One text as the reference and the artifact see it; ids of a pruned artifact are mapped back already."""

    group: str
    text: str
    reference_ids: Sequence[int]
    candidate_ids: Sequence[int]


class GroupParity(msgspec.Struct, frozen=True, kw_only=True):
    """One language, or one file of the user's texts."""

    group: str
    texts: int
    token_mismatches: int
    cosine_min: float
    cosine_p1: float
    cosine_mean: float
    centred_min: float
    centred_mean: float
    worst_text: str


class ParityReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `ringkas verify` found. `skipped` texts have tokens that a pruned vocabulary does not hold.

    `search` is what the artifact is worth at search, by language; empty where it was built without questions.
    """

    passed: bool
    failures: tuple[str, ...]
    target: str
    reference: str
    engine: str
    texts: int
    skipped: int
    floor: Floor
    cosine_min: float
    cosine_mean: float
    top10_overlap: float
    spearman: float
    ranked_texts: int
    groups: tuple[GroupParity, ...]
    search: tuple[SearchParity, ...] = ()
    tools: dict[str, str] = {}


@dataclass(frozen=True)
class Judged:
    """What is judged, for the report's header."""

    target: str
    engine: str
    reference: str
    floor: Floor
    tools: Mapping[str, str]


def judge(
    subject: Judged, samples: Sequence[Sample], reference: Vectors, candidate: Vectors, skipped: int = 0
) -> ParityReport:
    """Compares (n, dimension) vectors of the same `samples`.

    Raises:
        ArtifactError: no texts, another number or length of vectors, or values that are not finite: none of
            these is a measurement.
    """
    _check(samples, reference, candidate)
    cosines = cosine(reference, candidate)
    centred = centred_cosine(reference, candidate)
    names = np.array([sample.group for sample in samples])
    groups = tuple(
        _group(str(name), np.flatnonzero(names == name), samples, cosines, centred)
        for name in dict.fromkeys(names.tolist())
    )
    ranked = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), MAX_RANKED)).astype(int))
    overlap, correlation = rank_agreement(reference[ranked], candidate[ranked])
    failures = _failures(groups, overlap, subject.floor)
    return ParityReport(
        passed=not failures,
        failures=failures,
        target=subject.target,
        reference=subject.reference,
        engine=subject.engine,
        texts=len(samples),
        skipped=skipped,
        floor=subject.floor,
        cosine_min=float(cosines.min()),
        cosine_mean=float(cosines.mean()),
        top10_overlap=overlap,
        spearman=correlation,
        ranked_texts=len(ranked),
        groups=groups,
        tools=dict(subject.tools),
    )


def cosine(a: npt.ArrayLike, b: npt.ArrayLike) -> Floats:
    """Row-wise cosine in float64; two zero vectors agree, a zero and another do not."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    norms = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    same = (x == y).all(axis=1)
    products = (x * y).sum(axis=1)
    return np.where(same, 1.0, products / np.where(norms == 0, 1.0, norms))


def centred_cosine(reference: Vectors, candidate: Vectors) -> Floats:
    """`cosine` after the mean vector of `reference` was taken from both."""
    mean = reference.mean(axis=0, dtype=np.float64)
    return cosine(reference - mean, candidate - mean)


def rank_agreement(reference: Vectors, candidate: Vectors) -> tuple[float, float]:
    """The share of each text's 10 nearest that stay, and Spearman's correlation of all similarities."""
    candidate = rounded_alike(candidate, reference)
    a, b = similarities(reference, reference), similarities(candidate, candidate)
    upper = np.triu_indices(len(a), 1)
    correlation = spearman(a[upper], b[upper])
    for one in (a, b):
        np.fill_diagonal(one, -np.inf)
    return share_kept(a, b, min(NEIGHBOURS, len(a) - 1)), correlation


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """The correlation of ranks, ties sharing theirs; 0 where one side ranks nothing, all its values equal."""
    x, y = (_ranks(np.asarray(values, dtype=np.float64)) for values in (a, b))
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _check(samples: Sequence[Sample], reference: Vectors, candidate: Vectors) -> None:
    if len(samples) < _FEWEST:
        raise ArtifactError(
            f"there are {len(samples)} texts to compare",
            why=f"fewer than {_FEWEST} prove nothing about neighbours",
            fix="Add texts with --texts, or keep more of the vocabulary",
        )
    if reference.shape != candidate.shape or len(reference) != len(samples):
        raise ArtifactError(
            f"{len(samples)} texts gave vectors of shape {reference.shape} by the reference "
            f"and {candidate.shape} by the artifact",
            why="the reference is of another model, or the artifact is damaged",
        )
    if not (np.isfinite(reference).all() and np.isfinite(candidate).all()):
        raise ArtifactError("a vector holds values that are not finite", why="the weights are damaged")


def _group(
    name: str, rows: npt.NDArray[np.intp], samples: Sequence[Sample], cosines: Floats, centred: Floats
) -> GroupParity:
    own = cosines[rows]
    worst = samples[int(rows[own.argmin()])].text
    mismatches = sum(list(samples[i].reference_ids) != list(samples[i].candidate_ids) for i in rows)
    return GroupParity(
        group=name,
        texts=len(rows),
        token_mismatches=mismatches,
        cosine_min=float(own.min()),
        cosine_p1=float(np.percentile(own, 1)),
        cosine_mean=float(own.mean()),
        centred_min=float(centred[rows].min()),
        centred_mean=float(centred[rows].mean()),
        worst_text=worst if len(worst) <= _EXCERPT else worst[:_EXCERPT] + "…",
    )


def _failures(groups: Sequence[GroupParity], overlap: float, floor: Floor) -> tuple[str, ...]:
    failures = []
    for group in groups:
        if group.token_mismatches:
            failures.append(
                f"{group.group}: {group.token_mismatches} of {group.texts} texts get other token ids"
            )
        if group.cosine_min < floor.cosine_min:
            failures.append(
                f"{group.group}: cosine minimum {group.cosine_min:.6f} is below {floor.cosine_min}"
                f" ({group.worst_text!r})"
            )
        if group.cosine_mean < floor.cosine_mean:
            failures.append(
                f"{group.group}: cosine mean {group.cosine_mean:.6f} is below {floor.cosine_mean}"
            )
    if overlap < floor.top10_overlap:
        failures.append(f"top-10 overlap {overlap:.4f} is below {floor.top10_overlap}")
    return tuple(failures)


def _ranks(values: Floats) -> Floats:
    """Ranks from 0; equal values share the mean of theirs."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts + 1) / 2)[index])
