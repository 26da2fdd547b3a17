"""The probe: texts with the reference's token ids and vectors, kept in every artifact.

With it an artifact can be verified where there is no PyTorch. The texts travel along, so that a later
version with other built-in texts still reads it. Vectors are float16: their rounding moves a cosine by less
than 1e-6. For the demo checkpoint it weighs about 50 kB.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ringkas.arrays import ArraysError, read_arrays
from ringkas.artifact import Witness
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engine import Vectors
from ringkas.runtimes.parity.search import (
    UNREADABLE,
    SearchProbe,
    as_vectors,
    load_search_probe,
    no_vectors,
    save_search_probe,
)

PROBE_FILE = "parity/probe.npz"


@dataclass(frozen=True)
class Probe:
    """Parallel sequences, one entry a text; `vectors` has shape (n, dimension).

    `witness` agreed with the reference when the probe was made; it is not stored with the texts.
    `search` holds the questions and passages, by language; an older artifact has none.
    """

    groups: tuple[str, ...]
    texts: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]
    vectors: Vectors
    reference: str
    witness: Witness | None = None
    search: SearchProbe | None = None

    def __len__(self) -> int:
        return len(self.texts)

    def select(self, rows: Sequence[int]) -> Probe:
        """The probe of those rows alone."""
        return replace(
            self,
            groups=tuple(self.groups[row] for row in rows),
            texts=tuple(self.texts[row] for row in rows),
            token_ids=tuple(self.token_ids[row] for row in rows),
            vectors=self.vectors[list(rows)],
        )


def make_probe(encoder: Encoder, texts: Mapping[str, Iterable[str]], reference: str) -> Probe:
    """Encodes `texts`, given by group, with the reference `encoder`, without any prompt."""
    groups, flat = [], []
    for group, members in texts.items():
        for text in members:
            groups.append(group)
            flat.append(text)
    token_ids = encoder.tokenizer.encode(flat) if flat else []
    vectors = encoder.encode_ids(token_ids)
    return Probe(tuple(groups), tuple(flat), tuple(map(tuple, token_ids)), vectors, reference)


def save_probe(probe: Probe, folder: Path) -> None:
    """Writes the probe into an artifact folder."""
    file = folder / PROBE_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    header = {"groups": probe.groups, "texts": probe.texts, "reference": probe.reference}
    np.savez_compressed(
        file,
        header=np.frombuffer(json.dumps(header, ensure_ascii=False).encode("utf-8"), dtype=np.uint8),
        ids=np.concatenate([np.asarray(row, dtype=np.int32) for row in probe.token_ids]),
        lengths=np.array([len(row) for row in probe.token_ids], dtype=np.int32),
        vectors=probe.vectors.astype(np.float16),
    )
    if probe.search:
        save_search_probe(probe.search, folder)


def load_probe(folder: Path) -> Probe:
    """Reads the probe of an artifact folder.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    file = folder / PROBE_FILE
    try:
        arrays = read_arrays(file)
        header = msgspec.json.decode(arrays["header"].tobytes(), type=_Header)
        rows, vectors = _rows(arrays["ids"], arrays["lengths"]), as_vectors(arrays["vectors"])
        if not len(header.groups) == len(header.texts) == len(rows) == len(vectors):
            raise ArraysError("it has not as many texts as vectors")
    except (*UNREADABLE, KeyError) as error:
        raise no_vectors(file, error) from None
    return Probe(
        header.groups, header.texts, rows, vectors, header.reference, search=load_search_probe(folder)
    )


class _Header(msgspec.Struct):
    groups: tuple[str, ...]
    texts: tuple[str, ...]
    reference: str


def _rows(ids: npt.NDArray[Any], lengths: npt.NDArray[Any]) -> tuple[tuple[int, ...], ...]:
    whole = ids.ndim == lengths.ndim == 1 and ids.dtype.kind == lengths.dtype.kind == "i"
    if not whole or (lengths < 1).any() or int(lengths.sum()) != len(ids) or (ids < 0).any():
        raise ArraysError("its token ids are not rows of numbers")
    return tuple(tuple(map(int, row)) for row in np.split(ids, np.cumsum(lengths)[:-1]))
