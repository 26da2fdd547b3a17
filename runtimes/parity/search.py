"""What an artifact costs at search, by language: nDCG@10 on the built-in questions, beside the reference's.

The reference's vectors of every question and passage travel in the artifact, so that a device measures the
same without PyTorch. Twenty questions a language resolve little: the figures inform, and only a loss beyond
what chance explains fails. Texts that a pruned vocabulary does not cover count too, for they are searched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ringkas.arrays import ArraysError, read_arrays
from ringkas.errors import ArtifactError
from ringkas.questions import Question, passages, questions, relevant
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.evaluate.metrics import Floats, mean_interval, score_ranking
from ringkas.runtimes.parity.neighbours import NEIGHBOURS, rounded_alike, share_kept, similarities

SEARCH_FILE = "parity/search.npz"

# A language falls short when even the upper end of its difference's 95% interval is this far below zero.
MOST_LOST = 0.05


class SearchParity(msgspec.Struct, frozen=True, kw_only=True):
    """One language. `low` and `high` bound the paired difference of the two means of nDCG@10 at 95%.

    `top10_overlap`: the share of a question's ten nearest passages by the reference that stay so.
    """

    language: str
    questions: int
    passages: int
    ndcg_at_10: float
    reference_ndcg_at_10: float
    low: float
    high: float
    top10_overlap: float


@dataclass(frozen=True)
class Asked:
    """The questions of one language and the reference's vectors: (questions, d) and (passages, d)."""

    questions: tuple[Question, ...]
    query_vectors: Vectors
    passage_vectors: Vectors


SearchProbe = Mapping[str, Asked]


def make_search_probe(encoder: Encoder, languages: Iterable[str]) -> SearchProbe:
    """Encodes the questions of `languages`, all when none are named, with the reference `encoder`.

    Vectors are rounded to float16 at once, so that what is judged now is what will be stored.
    """
    listed = questions(languages)
    return {
        language: Asked(
            listed[language], *(vectors.astype(np.float16).astype(np.float32) for vectors in encoded)
        )
        for language, encoded in _encode(encoder, listed).items()
    }


def compare_search(encoder: Encoder, probe: SearchProbe) -> tuple[SearchParity, ...]:
    """Searches with `encoder`, opened on an artifact, and with the stored vectors of its reference.

    Raises:
        ArtifactError: a vector is not finite or of another length: neither is a measurement.
    """
    encoded = _encode(encoder, {language: asked.questions for language, asked in probe.items()})
    return tuple(_compare(language, asked, *encoded[language]) for language, asked in probe.items())


def unmeasured(probe: SearchProbe) -> tuple[SearchParity, ...]:
    """A row a language, all zeros: as long in a model card as the measured one will be."""
    return tuple(
        SearchParity(
            language=language,
            questions=len(asked.questions),
            passages=len(asked.passage_vectors),
            ndcg_at_10=0.0,
            reference_ndcg_at_10=0.0,
            low=0.0,
            high=0.0,
            top10_overlap=0.0,
        )
        for language, asked in probe.items()
    )


def search_failures(found: Sequence[SearchParity]) -> tuple[str, ...]:
    """What is worse than chance explains, a line a language."""
    return tuple(
        f"{one.language}: nDCG@10 on {one.questions} questions is {one.ndcg_at_10:.3f}, the reference's "
        f"{one.reference_ndcg_at_10:.3f}"
        for one in found
        if one.high < -MOST_LOST
    )


def save_search_probe(probe: SearchProbe, folder: Path) -> None:
    """Writes the probe into an artifact folder; vectors are float16, some 50 kB a language of 384 wide."""
    texts = {
        language: [[one.query, *one.passages] for one in asked.questions] for language, asked in probe.items()
    }
    vectors: dict[str, Any] = {}
    for language, asked in probe.items():
        vectors[f"queries-{language}"] = asked.query_vectors.astype(np.float16)
        vectors[f"passages-{language}"] = asked.passage_vectors.astype(np.float16)
    file = folder / SEARCH_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    header = np.frombuffer(json.dumps(texts, ensure_ascii=False).encode("utf-8"), dtype=np.uint8)
    np.savez_compressed(file, header=header, **vectors)


def load_search_probe(folder: Path) -> SearchProbe | None:
    """The probe of an artifact folder; None in one that was built before there was any.

    Raises:
        ArtifactError: it is damaged.
    """
    file = folder / SEARCH_FILE
    if not file.is_file():
        return None
    try:
        arrays = read_arrays(file)
        texts = msgspec.json.decode(arrays["header"].tobytes(), type=dict[str, list[tuple[str, ...]]])
        return {language: _asked(language, rows, arrays) for language, rows in texts.items()}
    except (*UNREADABLE, KeyError) as error:
        raise no_vectors(file, error) from None


# What reading a file of reference vectors raises where it is damaged.
UNREADABLE = (ArraysError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def no_vectors(file: Path, error: BaseException) -> ArtifactError:
    """What is said of a damaged file of reference vectors."""
    return ArtifactError(
        f"{file} holds no reference vectors", why=str(error), fix="Verify against a model: --reference MODEL"
    )


def as_vectors(stored: npt.NDArray[Any]) -> Vectors:
    """Stored vectors as float32, after checking that they are rows of finite numbers."""
    if stored.ndim != 2 or stored.dtype.kind != "f" or not np.isfinite(stored).all():
        raise ArraysError(f"its vectors are {stored.dtype} of shape {stored.shape}, or not finite")
    return stored.astype(np.float32)


def _asked(language: str, rows: Sequence[tuple[str, ...]], arrays: Mapping[str, npt.NDArray[Any]]) -> Asked:
    if not rows or min(map(len, rows)) < 2:
        raise ArraysError(f"a question of {language} has no passages")
    listed = tuple(Question(query, tuple(answers)) for query, *answers in rows)
    asked = Asked(
        listed, as_vectors(arrays[f"queries-{language}"]), as_vectors(arrays[f"passages-{language}"])
    )
    if (len(asked.query_vectors), len(asked.passage_vectors)) != (len(listed), len(passages(listed))):
        raise ArraysError(f"it has not as many texts of {language} as vectors")
    return asked


def _encode(encoder: Encoder, listed: Mapping[str, Sequence[Question]]) -> dict[str, tuple[Vectors, Vectors]]:
    """By language the vectors of its queries and of its passages; of all languages in the same batches."""
    ask: Callable[[list[str]], Vectors] = encoder.encode_query
    tell: Callable[[list[str]], Vectors] = encoder.encode_document
    if not encoder.spec.pooling.include_prompt:
        # Leaving a prompt out of the pooling takes vectors by token, which not every engine gives.
        ask = tell = partial(encoder.encode, prompt="")
    queries = _split(ask, {name: [one.query for one in asked] for name, asked in listed.items()})
    documents = _split(tell, {name: list(passages(asked)) for name, asked in listed.items()})
    return {name: (queries[name], documents[name]) for name in listed}


def _split(encode: Callable[[list[str]], Vectors], texts: Mapping[str, list[str]]) -> dict[str, Vectors]:
    vectors = encode([text for own in texts.values() for text in own])
    parts = np.split(vectors, list(accumulate(map(len, texts.values()))))
    return dict(zip(texts, parts, strict=False))  # there is one more, with what follows the last: nothing


def _compare(language: str, asked: Asked, queries: Vectors, documents: Vectors) -> SearchParity:
    for own, stored in ((queries, asked.query_vectors), (documents, asked.passage_vectors)):
        if own.shape != stored.shape:
            raise ArtifactError(
                f"{len(stored)} texts gave vectors of shape {stored.shape} by the reference and {own.shape} "
                "by the artifact",
                why="the reference is of another model, or the artifact is damaged",
            )
        if not np.isfinite(own).all():
            raise ArtifactError("a vector holds values that are not finite", why="the weights are damaged")
    reference, candidate = (
        similarities(asked.query_vectors, asked.passage_vectors),
        similarities(
            rounded_alike(queries, asked.query_vectors), rounded_alike(documents, asked.passage_vectors)
        ),
    )
    before, after = (_scores(one, asked.questions) for one in (reference, candidate))
    low, high = mean_interval(after - before)
    return SearchParity(
        language=language,
        questions=len(asked.questions),
        passages=len(documents),
        ndcg_at_10=float(after[:, 0].mean()),
        reference_ndcg_at_10=float(before[:, 0].mean()),
        low=low.ndcg_at_10,
        high=high.ndcg_at_10,
        top10_overlap=share_kept(reference, candidate, min(NEIGHBOURS, len(documents))),
    )


def _scores(similar: Floats, asked: Sequence[Question]) -> Floats:
    """Every question's scores, (questions, 3)."""
    rows = []
    for row, answers in zip(similar, relevant(asked), strict=True):
        ranking = [str(place) for place in np.argsort(-row, kind="stable")]
        rows.append(msgspec.structs.astuple(score_ranking(ranking, {str(place): 1 for place in answers})))
    return np.array(rows)
