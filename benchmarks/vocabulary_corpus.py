"""What ten megabytes of a user's own text add to the tables: Korean and English, each curve beside the other.

    python benchmarks/vocabulary_corpus.py [--shared FOLDER] [--packages FOLDER] [--out FILE]

The text is that of `vocabulary_tables.py`: for English openings of Wikipedia's vital articles, an excerpt of
Wikipedia, WordNet's glosses; for Korean LibreOffice's manual, Debian's handbook, messages (all there is,
up to 10 MB each). Most of it made the tables too, so this is the least that a corpus adds: text of the user's
own kind adds more. SIB-200, which chose nothing, judges, and beside it the corpora's own held-out parts, with
what was predicted of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result
from vocabulary_curve import KOEN_E5_TINY, Vocabulary, measure
from vocabulary_tables import PACKAGES_FOLDER, articles, glosses, messages, summaries

from ringkas.export.vocabulary.counting import CorpusCounts, count_corpus
from ringkas.export.vocabulary.languages import resolve_languages
from ringkas.export.vocabulary.predict import predict
from ringkas.export.vocabulary.select import Limits, choose, must_keep
from ringkas.export.vocabulary.usage import Usage, expect_usage

LANGUAGES = ("ko", "en")
BYTES = 10_000_000
ROWS = (20_000, 25_000, 30_000, 35_000, KOEN_E5_TINY, 50_000)


def main() -> None:
    root = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=root.parents[1] / "shared" / "data")
    parser.add_argument("--packages", type=Path, default=PACKAGES_FOLDER)
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary" / "corpus.json")
    options = parser.parse_args()
    vocabulary = Vocabulary(options.shared, "xlmr", options.packages)
    files = {tag: write_corpus(tag, options.packages) for tag in LANGUAGES}
    size = len(vocabulary.pieces)
    corpora = {tag: count_corpus([file], vocabulary.segmenter, size) for tag, file in files.items()}
    languages = resolve_languages(LANGUAGES, {})
    usages = {
        "tables alone": vocabulary.usage(LANGUAGES),
        "with a corpus": expect_usage(languages, vocabulary.pieces, vocabulary.segmenter, corpora),
    }
    report = {
        "corpora": {
            tag: {"bytes": files[tag].stat().st_size, "texts": one.texts, "tokens": int(one.tokens)}
            for tag, one in corpora.items()
        },
        "sentences unchanged": {
            name: [judged(vocabulary, usage, corpora, rows) for rows in ROWS]
            for name, usage in usages.items()
        },
    }
    write_result(options.out, report)
    print(json.dumps(report, indent=1, ensure_ascii=False))


def judged(
    vocabulary: Vocabulary, usage: Usage, corpora: Mapping[str, CorpusCounts], rows: int
) -> dict[str, Any]:
    """At `rows`: SIB-200, the corpus's held-out part, and what was predicted of that, as shares of texts."""
    languages, segmenter = resolve_languages(LANGUAGES, {}), vocabulary.segmenter
    must = must_keep(languages, vocabulary.pieces, vocabulary.always(), all_characters=False)
    kept = choose(vocabulary.pieces, usage, must, Limits(max_tokens=rows))
    predicted = predict(usage, corpora, segmenter, kept)
    found: dict[str, Any] = {"rows": rows}
    for tag in LANGUAGES:
        held = [bool(kept[ids].all()) for ids in segmenter.ids(corpora[tag].held_out)]
        found[tag] = {
            "SIB-200": round(measure(vocabulary, kept, tag)["identical"], 5),
            "held out": round(float(np.mean(held)), 5),
            "predicted of it": round(predicted[tag].identical, 5),
        }
    return found


def write_corpus(tag: str, folder: Path) -> Path:
    """The first `BYTES` of distinct lines of the language's text, as a file in `folder`."""
    file = folder / "corpora" / f"{tag}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    size = 0
    with file.open("w", encoding="utf-8") as stream:
        for line in (" ".join(text.split()) for text in _lines(tag, folder)):
            if line and line not in seen and size < BYTES:
                seen.add(line)
                stream.write(line + "\n")
                size += len(line.encode("utf-8")) + 1
    return file


def _lines(tag: str, folder: Path) -> Iterator[str]:
    if tag == "en":
        return chain(summaries(folder, "en-us"), articles(folder), glosses(folder))
    return messages(folder, tag)


if __name__ == "__main__":
    main()
