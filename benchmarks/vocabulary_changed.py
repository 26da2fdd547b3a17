"""What a text costs that a cut vocabulary segments otherwise: its vector and what a search makes of it.

    python benchmarks/vocabulary_changed.py [--shared FOLDER] [--out FILE] [--repair]

On SIB-200 with `demo-e5`, multilingual-e5-small to within 4-bit rounding. A pruned table holds the same rows
as the full one, so the full model, given the ids that the pruned tokenizer chose, computes what the pruned
one would.

`--repair` tries to make up for dropped pieces in their parts: the parts' rows move so that their mean comes
nearest to the lost piece's row, by least squares over expected use. A part is a piece of its own in other
text, so a weight (`RIDGES`) holds it back by how much covered text uses it, and covered texts are compared.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from results_file import write_result
from vocabulary_curve import KOEN_E5_TINY, SEA_LION

from ringkas.checkpoint import open_checkpoint
from ringkas.export.vocabulary.certificate import similarity
from ringkas.export.vocabulary.prune import PruneOptions, choose_ids, make_plan
from ringkas.export.vocabulary.rewrite import rewrite_document
from ringkas.export.vocabulary.segment import Segmenter
from ringkas.export.vocabulary.wordlists import after_bracket
from ringkas.runtimes.encoder import Encoder, load_reference_encoder
from ringkas.runtimes.parity.judge import cosine

CUTS: tuple[tuple[tuple[str, ...], int], ...] = (
    (("ko", "en"), KOEN_E5_TINY),
    (("ko", "en"), 30_000),
    (SEA_LION, 100_000),
)
REPAIRED = CUTS[1]
RIDGES = (0.1, 1.0, 10.0)
# Texts a language that are searched in beside the changed ones, and compared where covered.
OTHERS = 150
# Lost pieces that a repair counts, the most used.
LOST = 40_000
_PROMPT = "query: "
_ROUNDS, _ENOUGH = 60, 1e-4

Vectors = npt.NDArray[np.float32]
Rows = list[list[int]]


@dataclass(frozen=True)
class Cut:
    """A language's texts by the full vocabulary and by the cut one, both as ids of the full one."""

    full: Rows
    pruned: Rows

    @property
    def changed(self) -> list[int]:
        return [n for n, (one, other) in enumerate(zip(self.full, self.pruned, strict=True)) if one != other]

    @property
    def covered(self) -> list[int]:
        """Some of the texts that are segmented as before."""
        return sorted(set(range(len(self.full))) - set(self.changed))[:OTHERS]


class Subject:
    """The checkpoint, its texts, and one cut of its vocabulary at a time."""

    def __init__(self, shared: Path) -> None:
        self._shared = shared
        self.checkpoint = open_checkpoint("demo-e5")
        self.plan = make_plan(self.checkpoint, PruneOptions(("en",)))
        self.full = Segmenter(self.plan.document)

    def kept(self, languages: Sequence[str], rows: int) -> npt.NDArray[np.int64]:
        self.plan = make_plan(self.checkpoint, PruneOptions(tuple(languages), max_tokens=rows))
        return np.array(choose_ids(self.plan), dtype=np.int64)

    def pruned(self, kept: npt.NDArray[np.int64]) -> Segmenter:
        return Segmenter(rewrite_document(self.plan.document, kept.tolist()))

    def cut(self, language: str, kept: npt.NDArray[np.int64], pruned: Segmenter) -> Cut:
        texts = [_PROMPT + line for line in self._sentences(language)]
        return Cut(
            list(self.full.ids(texts, special=True)),
            [kept[ids].tolist() for ids in pruned.ids(texts, special=True)],
        )

    def _sentences(self, language: str) -> list[str]:
        text = (self._shared / "sib200" / f"{language}.txt").read_text(encoding="utf-8")
        return text.removesuffix("\n").split("\n")


def vectors(encoder: Encoder, rows: Rows, chosen: Sequence[int]) -> Vectors:
    if not chosen:
        return np.zeros((0, encoder.dimension), dtype=np.float32)
    return np.asarray(encoder.encode_ids([rows[n] for n in chosen]), dtype=np.float32)


def compare(encoder: Encoder, cuts: dict[str, Cut]) -> dict[str, Any]:
    """By language: changed texts, their cosine, and how many of their ten nearest stay."""
    before = {tag: vectors(encoder, cut.full, cut.changed) for tag, cut in cuts.items()}
    after = {tag: vectors(encoder, cut.pruned, cut.changed) for tag, cut in cuts.items()}
    covered = {tag: vectors(encoder, cut.full, cut.covered) for tag, cut in cuts.items()}
    pool = np.concatenate([*before.values(), *covered.values()])
    found: dict[str, Any] = {}
    for tag, cut in cuts.items():
        found[tag] = {"texts": len(cut.full), "changed": len(cut.changed), "searched in": len(pool)}
        if cut.changed:
            found[tag] |= rounded(before[tag], after[tag], pool)
    return found


def rounded(before: Vectors, after: Vectors, pool: Vectors) -> dict[str, float | None]:
    found, mean = similarity(before, after, pool), pool.mean(axis=0)
    overlap = found.top10_overlap
    return {
        "cosine, least": round(found.minimum, 4),
        "cosine, mean": round(found.mean, 5),
        "cosine less the mean vector, mean": round(float(cosine(before - mean, after - mean).mean()), 4),
        "ten nearest kept": None if overlap is None else round(overlap, 4),
    }


def repair(subject: Subject, encoder: Encoder) -> dict[str, Any]:
    """The repaired cut beside the plain one, for changed texts and for covered ones."""
    languages, rows = REPAIRED
    kept = subject.kept(languages, rows)
    pruned = subject.pruned(kept)
    cuts = {tag: subject.cut(tag, kept, pruned) for tag in languages}
    table = encoder.engine._reference.encoder.get_input_embeddings().weight  # type: ignore[attr-defined]
    original = table.detach().clone()
    before = {tag: vectors(encoder, cut.full, cut.changed) for tag, cut in cuts.items()}
    covered = {tag: vectors(encoder, cut.full, cut.covered) for tag, cut in cuts.items()}
    pool = np.concatenate([*before.values(), *covered.values()])
    found: dict[str, Any] = {}
    moves = {f"ridge {ridge:g}": nudges(subject, kept, pruned, original.numpy(), ridge) for ridge in RIDGES}
    import torch

    for name, moved in {"none": None, **moves}.items():
        with torch.no_grad():
            table.copy_(original if moved is None else torch.from_numpy(moved))
        found[name] = {}
        for tag, cut in cuts.items():
            same = cosine(covered[tag], vectors(encoder, cut.pruned, cut.covered))
            found[name][tag] = {
                "changed texts": rounded(before[tag], vectors(encoder, cut.pruned, cut.changed), pool),
                "covered texts": {
                    "cosine, least": round(float(same.min()), 5),
                    "cosine, mean": round(float(same.mean()), 6),
                },
            }
        print(name, json.dumps(found[name]), flush=True)
    return found


def nudges(
    subject: Subject, kept: npt.NDArray[np.int64], pruned: Segmenter, table: Vectors, ridge: float
) -> Vectors:
    """The table with the rows of parts moved towards the lost pieces that they stand for.

    Least is the sum, over lost pieces by their use, of the squared distance of the piece's row to the mean of
    its parts' rows, and `ridge` times the sum, over parts by theirs, of how far they moved, squared.
    """
    from scipy import sparse

    use = subject.plan.weighed.usage.total()
    dropped = np.setdiff1d(np.arange(len(use)), kept)
    lost = dropped[np.argsort(-use[dropped], kind="stable")][:LOST]
    surfaces = [subject.plan.weighed.pieces.surfaces[id] for id in lost]
    begins = subject.full.begins_word[lost]
    parts: Rows = [[] for _ in lost]
    first, inner = np.flatnonzero(begins), np.flatnonzero(~begins)
    for at, row in zip(first, pruned.ids([surfaces[n] for n in first]), strict=True):
        parts[at] = kept[row].tolist()
    rows = after_bracket([surfaces[n] for n in inner], pruned)
    for at, row in zip(inner, np.split(rows.ids, np.cumsum(rows.lengths)[:-1]), strict=True):
        parts[at] = kept[row].tolist()
    share = np.concatenate([np.full(len(row), 1 / len(row)) for row in parts if row])
    of = np.concatenate([np.full(len(row), n) for n, row in enumerate(parts) if row])
    columns, where = np.unique([id for row in parts for id in row], return_inverse=True)
    mean = sparse.csr_array((share, (of, where)), shape=(len(lost), len(columns)))
    weigh = sparse.diags_array(use[lost])
    pull = mean.T @ weigh @ (table[lost].astype(np.float64) - mean @ table[columns])
    system = mean.T @ weigh @ mean + sparse.diags_array(ridge * use[columns] + 1e-12)
    moved = table.copy()
    moved[columns] += _solve(system, pull).astype(np.float32)
    return moved


def _solve(system: Any, wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Conjugate gradients with the diagonal before them, every column at once."""
    diagonal = system.diagonal()[:, None]
    found = np.zeros_like(wanted)
    rest = wanted.copy()
    ahead = rest / diagonal
    step, size = ahead.copy(), (rest * ahead).sum(axis=0)
    for _ in range(_ROUNDS):
        along = system @ step
        rate = size / np.maximum((step * along).sum(axis=0), 1e-300)
        found += rate * step
        rest -= rate * along
        if np.linalg.norm(rest) < _ENOUGH * np.linalg.norm(wanted):
            break
        ahead = rest / diagonal
        before, size = size, (rest * ahead).sum(axis=0)
        step = ahead + size / np.maximum(before, 1e-300) * step
    return found


def main() -> None:
    root = Path(__file__).resolve().parent
    shared = Path(os.environ.get("RINGKAS_SHARED", root.parents[1] / "shared"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=shared / "data", help="SIB-200")
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary")
    parser.add_argument("--repair", action="store_true")
    options = parser.parse_args()
    subject = Subject(options.shared)
    with load_reference_encoder(subject.checkpoint) as encoder:
        if options.repair:
            languages, rows = REPAIRED
            report = {"languages": languages, "rows": rows, "by repair": repair(subject, encoder)}
            write_result(options.out / "repair.json", report)
            return
        listed = []
        for languages, rows in CUTS:
            kept = subject.kept(languages, rows)
            pruned = subject.pruned(kept)
            cuts = {tag: subject.cut(tag, kept, pruned) for tag in languages}
            listed.append({"languages": languages, "rows": rows, "by language": compare(encoder, cuts)})
            print(json.dumps(listed[-1]), flush=True)
            write_result(options.out / "changed.json", listed)


if __name__ == "__main__":
    main()
