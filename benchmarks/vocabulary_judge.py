"""The same cuts on other text than SIB-200: is what holds there true of any text and any listed language?

    python benchmarks/vocabulary_judge.py [--shared FOLDER] [--packages FOLDER] [--out FILE] [--every]

XLM-R's vocabulary. Judged on up to three texts a language that no frequency table was made of: the
declaration of human rights, one of another kind, and treebanks (`vocabulary_texts.py`). `--every` judges each
further language that needs no corpus, by the declaration and treebanks, beside English in `BEYOND_ROWS` rows.
Of a text that is below the floor of its language (`vocabulary_curve.py`), `rows_for_floor` says how many rows
would meet it.
"""

from __future__ import annotations

import argparse
import json
import os
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import langcodes
import numpy as np
from results_file import write_result
from vocabulary_curve import FLOORS, PACKAGES, Floor, Vocabulary
from vocabulary_texts import declaration, other_text, treebanks

from ringkas.export.vocabulary.languages import known_languages, resolve_languages
from ringkas.export.vocabulary.pieces import Mask
from ringkas.export.vocabulary.select import Limits, choose, must_keep

BEYOND = ("pt", "es", "de", "fr", "hi", "ar", "ru")
BEYOND_ROWS = 60_000
_STEP = 250
CUTS: tuple[Floor, ...] = (
    *(floor for floor in FLOORS if floor.tokenizer == "xlmr"),
    *(Floor("xlmr", (tag, "en"), BEYOND_ROWS, 0.0, {}) for tag in BEYOND),
)


class Judge:
    """The texts of each language through the full tokenizer, each once."""

    def __init__(self, vocabulary: Vocabulary, packages: Path) -> None:
        self.vocabulary = vocabulary
        self._packages = packages
        self._texts: dict[str, dict[str, list[np.ndarray[Any, Any]]]] = {}

    def texts(self, tag: str, *, other: bool = True) -> dict[str, list[np.ndarray[Any, Any]]]:
        """By the text's name, the ids of its sentences."""
        if tag not in self._texts:
            code = langcodes.Language.get(tag).to_alpha3()
            named = {"declaration of human rights": declaration(self._packages, tag, code)}
            found = other_text(self._packages, tag) if other else None
            named |= {found[0]: found[1]} if found else {}
            named |= treebanks(self._packages, tag)
            self._texts[tag] = {
                name: [np.array(ids, dtype=np.int64) for ids in self.vocabulary.segmenter.ids(texts)]
                for name, texts in named.items()
                if texts
            }
        return self._texts[tag]

    def cut(self, languages: Sequence[str], rows: int) -> Mask:
        resolved, pieces = resolve_languages(languages, {}), self.vocabulary.pieces
        must = must_keep(resolved, pieces, self.vocabulary.always(), all_characters=False)
        return choose(pieces, self.vocabulary.usage(languages), must, Limits(max_tokens=rows))


def shares(kept: Mask, texts: dict[str, list[np.ndarray[Any, Any]]]) -> dict[str, Any]:
    """Of each text: how many sentences, and the shares of tokens kept and of sentences that keep all."""
    return {
        name: {
            "sentences": len(rows),
            "tokens": round(float(kept[np.concatenate(rows)].mean()), 5),
            "identical": round(float(np.mean([kept[row].all() for row in rows])), 4),
        }
        for name, rows in texts.items()
    }


def rows_for_floor(judge: Judge, floor: Floor, tag: str, name: str) -> int:
    """The fewest rows, to `_STEP`, in which the text of that name keeps what `floor` asks of its language."""
    texts, asked = judge.texts(tag)[name], floor.identical[tag]

    def met(rows: int) -> bool:
        (one,) = shares(judge.cut(floor.languages, rows), {name: texts}).values()
        return bool(one["identical"] >= asked)

    steps = range(floor.rows, len(judge.vocabulary.pieces), _STEP)
    return steps[bisect_left(steps, True, key=met)]


def _worst(judged: dict[str, Any]) -> float:
    """The least share of sentences that keep all their tokens."""
    return min(float(text["identical"]) for text in judged.values())


def main() -> None:
    root = Path(__file__).resolve().parent
    shared = Path(os.environ.get("RINGKAS_SHARED", root.parents[1] / "shared"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=shared / "data", help="tokenizers")
    parser.add_argument("--packages", type=Path, default=PACKAGES)
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary" / "judge.json")
    parser.add_argument("--every", action="store_true")
    options = parser.parse_args()
    judge = Judge(Vocabulary(options.shared, "xlmr", options.packages), options.packages)
    report: list[dict[str, Any]] = []
    for cut in CUTS:
        kept = judge.cut(cut.languages, cut.rows)
        found = {tag: shares(kept, judge.texts(tag)) for tag in cut.languages}
        for tag, asked in cut.identical.items():
            for name in [name for name, one in found[tag].items() if one["identical"] < asked]:
                found[tag][name] |= {"floor": asked, "rows_for_floor": rows_for_floor(judge, cut, tag, name)}
        report.append({"languages": cut.languages, "rows": cut.rows, "judged": found})
        print(json.dumps(report[-1], ensure_ascii=False), flush=True)
    write_result(options.out, report)
    if options.every:
        done = {tag for cut in CUTS for tag in cut.languages}
        further = [tag for tag in known_languages() if tag not in done and judge.texts(tag, other=False)]
        # Another name of a language that is there by its own, as sh is of sr-Latn.
        further = [tag for tag in further if resolve_languages([tag], {})[0].tag == tag]
        rows = {}
        for tag in further:
            kept = judge.cut((tag, "en"), BEYOND_ROWS)
            rows[tag] = shares(kept, judge.texts(tag, other=False))
            print(tag, rows[tag], flush=True)
        ranked = dict(sorted(rows.items(), key=lambda item: _worst(item[1])))
        name = f"each language with English in {BEYOND_ROWS} rows"
        write_result(options.out.with_name("judge_every.json"), {name: ranked})


if __name__ == "__main__":
    main()
