"""Rows kept against text unchanged, on sentences that chose nothing (SIB-200), for each set of languages.

    python benchmarks/vocabulary_curve.py [--shared FOLDER] [--only NAME] [--out FOLDER]

Reads the XLM-R and Gemma tokenizers and SIB-200 from the shared data folder; writes `curve.json` and one
PNG a set. Exits 1 when a floor of the table is not met.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

from ringkas.export.vocabulary.certificate import unknown_ids
from ringkas.export.vocabulary.kinds import Document
from ringkas.export.vocabulary.languages import resolve_languages
from ringkas.export.vocabulary.pieces import Mask, Pieces, read_pieces
from ringkas.export.vocabulary.plot import Curve, draw
from ringkas.export.vocabulary.rewrite import referenced_ids, rewrite_document
from ringkas.export.vocabulary.segment import Segmenter, characters_of
from ringkas.export.vocabulary.select import Limits, choose, must_keep
from ringkas.export.vocabulary.usage import expect_usage

SEA_LION = ("en", "zh", "th", "vi", "id", "ms", "fil", "my", "km", "lo", "ta")
# What KoEn-E5-Tiny, cut by hand, kept of the same vocabulary.
KOEN_E5_TINY = 41_348
FRACTIONS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5)


@dataclass(frozen=True)
class Floor:
    """A row of the table: at `rows` rows, so much of each language; shares of one."""

    tokenizer: str
    languages: tuple[str, ...]
    rows: int
    tokens: float
    identical: Mapping[str, float]

    @property
    def name(self) -> str:
        listed = "sea-lion" if self.languages == SEA_LION else "-".join(self.languages)
        return f"{self.tokenizer}-{listed}"


FLOORS = (
    Floor("xlmr", ("ko", "en"), KOEN_E5_TINY, 0.9975, {"ko": 0.965, "en": 0.93}),
    Floor("xlmr", ("en",), 36_000, 0.9975, {"en": 0.93}),
    *(
        Floor("xlmr", (language, "en"), 42_000, 0.9975, {language: 0.93, "en": 0.93})
        for language in ("th", "km", "lo", "my", "ta")
    ),
    Floor("xlmr", ("id", "ms", "fil", "en"), 60_000, 0.997, dict.fromkeys(("id", "ms", "fil", "en"), 0.93)),
    Floor("xlmr", SEA_LION, 100_000, 0.997, dict.fromkeys(SEA_LION, 0.92)),
    Floor("gemma", ("ko", "en"), 70_000, 0.995, {}),
    Floor("gemma", SEA_LION, 140_000, 0.995, {}),
)


class Vocabulary:
    """One full tokenizer, and SIB-200 through it."""

    def __init__(self, shared: Path, name: str) -> None:
        with gzip.open(shared / name / "tokenizer.json.gz") as stream:
            self.document: Document = json.load(stream)
        self.segmenter = Segmenter(self.document)
        self.pieces: Pieces = read_pieces(self.document)
        self._shared = shared
        self._segmented: dict[str, list[np.ndarray[Any, Any]]] = {}

    def sentences(self, language: str) -> list[str]:
        text = (self._shared / "sib200" / f"{language}.txt").read_text(encoding="utf-8")
        return text.removesuffix("\n").split("\n")

    def segmented(self, language: str) -> list[np.ndarray[Any, Any]]:
        if language not in self._segmented:
            rows = self.segmenter.ids(self.sentences(language))
            self._segmented[language] = [np.array(row, dtype=np.int64) for row in rows]
        return self._segmented[language]


def measure(vocabulary: Vocabulary, kept: Mask, language: str) -> dict[str, float]:
    """Shares of tokens and of sentences that keep all of theirs: by the theorem, those that are unchanged."""
    rows = vocabulary.segmented(language)
    return {
        "tokens": float(kept[np.concatenate(rows)].mean()),
        "identical": float(np.mean([kept[row].all() for row in rows])),
    }


def confirm(vocabulary: Vocabulary, kept: Mask, language: str) -> dict[str, int | float]:
    """The same by the pruned tokenizer itself, and the characters that became unknown."""
    ids = np.flatnonzero(kept)
    document = rewrite_document(vocabulary.document, ids.tolist())
    pruned, sentences = Segmenter(document), vocabulary.sentences(language)
    same = [
        np.array_equal(ids[row], full)
        for row, full in zip(pruned.ids(sentences), vocabulary.segmented(language), strict=True)
    ]
    return {
        "identical_measured": float(np.mean(same)),
        "unknown_before": _unknown(vocabulary.segmenter, vocabulary.document, sentences),
        "unknown_after": _unknown(pruned, document, sentences),
    }


def run(vocabulary: Vocabulary, floor: Floor) -> dict[str, Any]:
    """The curve of one set and its row of the table."""
    pieces, started = vocabulary.pieces, time.perf_counter()
    languages = resolve_languages(floor.languages, {})
    always = {id for id in referenced_ids(vocabulary.document, {}) if id < len(pieces)}
    must = must_keep(languages, pieces, always, all_characters=False)
    every = must_keep(languages, pieces, always, all_characters=True)
    usage = expect_usage(languages, pieces, vocabulary.segmenter)
    seconds = time.perf_counter() - started
    curve = []
    for rows in sorted({int(floor.rows * fraction) for fraction in FRACTIONS}):
        if rows < must.sum() * 1.05 or rows > len(pieces):
            continue
        kept = choose(pieces, usage, must, Limits(max_tokens=rows))
        curve.append({"rows": rows, **{tag: measure(vocabulary, kept, tag) for tag in floor.languages}})
    at = choose(pieces, usage, must, Limits(max_tokens=floor.rows))
    measured = {
        tag: {**measure(vocabulary, at, tag), **confirm(vocabulary, at, tag)} for tag in floor.languages
    }
    default = choose(pieces, usage, must, Limits())
    return {
        "name": floor.name,
        "languages": list(floor.languages),
        "rows": int(at.sum()),
        "sentences": len(vocabulary.sentences(floor.languages[0])),
        "at_floor": measured,
        "met": all(_met(floor, tag, figures) for tag, figures in measured.items()),
        "always_kept": int(must.sum()),
        "every_character_of_any_script_costs": int(every.sum() - must.sum()),
        "default_coverage": {
            "rows": int(default.sum()),
            **{tag: measure(vocabulary, default, tag) for tag in floor.languages},
        },
        "seconds_to_choose": round(seconds, 1),
        "curve": curve,
    }


def _met(floor: Floor, language: str, figures: Mapping[str, float]) -> bool:
    identical = floor.identical.get(language, 0.0)
    enough = figures["tokens"] >= floor.tokens and figures["identical_measured"] >= identical
    # Hanja in Korean are the one exception, and their cost is in the figures.
    known = figures["unknown_after"] == figures["unknown_before"] or floor.tokenizer == "gemma"
    return enough and known


def _unknown(segmenter: Segmenter, document: Document, sentences: Sequence[str]) -> int:
    unknown = unknown_ids(document)
    affected = [
        text
        for text, row in zip(sentences, segmenter.ids(sentences), strict=True)
        if not unknown.isdisjoint(row)
    ]
    return sum(characters_of(encoding, unknown) for encoding in segmenter.encodings(affected))


def save(results: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Writes `results`, in the order of the table, beside those of other sets that `file` holds."""
    found = (
        {result["name"]: result for result in json.loads(file.read_text())["rows"]} if file.is_file() else {}
    )
    found |= {result["name"]: result for result in results}
    listed = [found[floor.name] for floor in FLOORS if floor.name in found]
    write_result(file, listed)


def main() -> int:
    root = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    shared = Path(os.environ.get("RINGKAS_SHARED", root.parents[1] / "shared"))
    parser.add_argument("--shared", type=Path, default=shared / "data", help="tokenizers and SIB-200")
    parser.add_argument("--only", default="", help="a part of the names of the sets to run")
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    vocabularies: dict[str, Vocabulary] = {}
    results = []
    for floor in FLOORS:
        if arguments.only not in floor.name:
            continue
        if floor.tokenizer not in vocabularies:
            vocabularies[floor.tokenizer] = Vocabulary(Path(arguments.shared), floor.tokenizer)
        result = run(vocabularies[floor.tokenizer], floor)
        results.append(result)
        marks = {"KoEn-E5-Tiny": KOEN_E5_TINY} if floor.name == "xlmr-ko-en" else {}
        shares = {tag: [point[tag]["identical"] for point in result["curve"]] for tag in floor.languages}
        rows = [point["rows"] for point in result["curve"]]
        draw(Curve(floor.name, rows, shares, marks), arguments.out / f"{floor.name}.png")
        print(json.dumps({key: result[key] for key in ("name", "rows", "met", "at_floor")}), flush=True)
    save(results, arguments.out / "curve.json")
    return 0 if all(result["met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
