"""How many rows English needs with Gemma's BPE, whatever chooses them: what long real text has not seen.

    python benchmarks/vocabulary_limit.py TEXT... [--shared FOLDER] [--rows 70000] [--out FILE]
    python benchmarks/vocabulary_limit.py --lexemes en_lexeme_prob.json.gz --out FILE

TEXT are plain files of English; the published figures are of WordNet 3.0's glosses and of two collections
that Debian packages, an essay (`anarchism`) and quotations (`fortunes`). Compares, on SIB-200's English:
the choice by word lists; the choice by those texts' own token counts; and every token that occurs in them,
with no limit. Instead of texts, --lexemes takes a million words as they are written, with their log
probabilities over billions of words (PyPI's spacy-lookups-data), which then weigh as much as the word lists.
That is evidence and no proof: text nearer to the one that is judged would do better.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result
from vocabulary_curve import Vocabulary, measure

from ringkas.export.vocabulary.counting import CorpusCounts, count_corpus
from ringkas.export.vocabulary.languages import resolve_languages
from ringkas.export.vocabulary.rewrite import referenced_ids
from ringkas.export.vocabulary.segment import segment_rows
from ringkas.export.vocabulary.select import Limits, choose, must_keep
from ringkas.export.vocabulary.usage import expect_usage

LANGUAGES = ("ko", "en")
LEXEMES_WORTH = 1_000_000  # tokens: as many as the word lists count for


def main() -> None:
    root = Path(__file__).resolve().parent
    shared = Path(os.environ.get("RINGKAS_SHARED", root.parents[1] / "shared"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("texts", nargs="*", type=Path)
    parser.add_argument("--lexemes", type=Path)
    parser.add_argument("--shared", type=Path, default=shared / "data", help="tokenizers and SIB-200")
    parser.add_argument("--rows", type=int, default=70_000)
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary" / "limit.json")
    options = parser.parse_args()
    vocabulary = Vocabulary(options.shared, "gemma")
    pieces, languages = vocabulary.pieces, resolve_languages(LANGUAGES, {})
    always = {id for id in referenced_ids(vocabulary.document, {}) if id < len(pieces)}
    must = must_keep(languages, pieces, always, all_characters=False)
    if options.lexemes:
        corpus = weigh_lexemes(options.lexemes, vocabulary)
    else:
        corpus = count_corpus(options.texts, vocabulary.segmenter, len(pieces))
    by_lists = expect_usage(languages, pieces, vocabulary.segmenter)
    with_text = expect_usage(languages, pieces, vocabulary.segmenter, {"en": corpus})
    limits = Limits(max_tokens=options.rows)
    ceiling = choose(pieces, by_lists, must | (corpus.counts > 0), Limits(coverage=1e-9))
    kept = {
        "word lists": choose(pieces, by_lists, must, limits),
        "word lists and these texts": choose(pieces, with_text, must, limits),
        "every token of these texts, none for Korean": ceiling,
    }
    report: dict[str, Any] = {
        "texts": [file.name for file in ([options.lexemes] if options.lexemes else options.texts)],
        "tokens": int(corpus.tokens),
        "distinct_tokens": int((corpus.counts > 0).sum()),
    }
    for name, mask in kept.items():
        report[name] = {
            "rows": int(mask.sum()),
            **{tag: round(measure(vocabulary, mask, tag)["tokens"], 5) for tag in LANGUAGES},
        }
    # The other side: in hindsight, how many rows the tokens of these texts themselves need.
    order = np.sort(corpus.counts)[::-1]
    enough = int(np.searchsorted(np.cumsum(order), 0.995 * order.sum())) + 1
    report["distinct tokens that make 99.5% of these texts, in hindsight"] = enough
    write_result(options.out, report)
    print(json.dumps(report, indent=1))


def weigh_lexemes(file: Path, vocabulary: Vocabulary) -> CorpusCounts:
    """Tokens of a million words in proportion to their words' probabilities."""
    with gzip.open(file) as stream:
        listed: dict[str, float] = json.load(stream)
    words = [word for word in listed if word.isprintable() and len(word.split()) == 1]
    probabilities = np.exp([listed[word] for word in words])
    weights = segment_rows(vocabulary.segmenter, words).spread(probabilities, len(vocabulary.pieces))
    return CorpusCounts(LEXEMES_WORTH * weights / weights.sum())


if __name__ == "__main__":
    main()
