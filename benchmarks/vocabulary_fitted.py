"""Whether another order of Gemma's tokens would keep more of English: one fitted on the text that judges.

    python benchmarks/vocabulary_fitted.py [--shared FOLDER]

A small network is fitted to how often each token occurs in one half of SIB-200's English, from frequencies by
the word lists of fourteen languages, the order of the merges, and the token's spelling. It then orders the
tokens, and the other half says what so many rows keep; the project's own order is judged on the same half.
The fitted order has seen text of the same source, which no choice by lists may: what it does not reach is out
of reach of these signals.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from results_file import write_result
from vocabulary_curve import Vocabulary

from ringkas.export.vocabulary import bpe
from ringkas.export.vocabulary.languages import resolve_languages, words_of
from ringkas.export.vocabulary.rewrite import referenced_ids
from ringkas.export.vocabulary.segment import token_rows
from ringkas.export.vocabulary.select import must_keep
from ringkas.export.vocabulary.usage import expect_usage
from ringkas.export.vocabulary.wordlists import count_words

ROWS = (60_000, 70_000, 80_000, 90_000, 100_000)
LISTS = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "id", "vi", "tr", "sv", "fi", "cs")
_STEPS, _WIDTH, _RATE = 400, 32, 3e-3

Values = npt.NDArray[np.float64]


def main() -> None:
    root = Path(__file__).resolve().parent
    shared = Path(os.environ.get("RINGKAS_SHARED", root.parents[1] / "shared"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=shared / "data", help="tokenizers and SIB-200")
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary" / "fitted.json")
    options = parser.parse_args()
    vocabulary = Vocabulary(options.shared, "gemma")
    pieces, languages = vocabulary.pieces, resolve_languages(("ko", "en"), {})
    korean, _ = languages
    always = {id for id in referenced_ids(vocabulary.document, {}) if id < len(pieces)}
    # Both orders fill what Korean and the tokens that are kept in any case leave.
    kept = must_keep(languages, pieces, always, all_characters=False) | pieces.of_scripts(korean.scripts)
    own = expect_usage(languages, pieces, vocabulary.segmenter).by_language["en"]
    known = features(vocabulary)
    texts = (options.shared / "sib200" / "en.txt").read_text(encoding="utf-8").splitlines()
    report: dict[str, Any] = {"rows": list(ROWS), "halves": []}
    for half in (0, 1):
        seen = counts(vocabulary, texts[half::2])
        judged = counts(vocabulary, texts[1 - half :: 2])
        orders = {"fitted": fit(known, seen, ~kept), "by lists": own}
        report["halves"].append(
            {name: [share(order, kept, judged, rows) for rows in ROWS] for name, order in orders.items()}
        )
    write_result(options.out, report)
    print(json.dumps(report, indent=1))


def features(vocabulary: Vocabulary) -> torch.Tensor:
    """What is known of each token without any text: (tokens, features), standardised."""
    pieces, segmenter = vocabulary.pieces, vocabulary.segmenter
    tokens = bpe.tokens(vocabulary.document)
    bare = [token.lstrip("▁") for token in tokens]
    columns = [
        np.log(count_words(words_of(tag), segmenter, pieces.probability, language=tag, spaced=True) + 1e-10)
        for tag in LISTS
    ]
    columns += [
        np.log(pieces.probability + 1e-12),
        np.array([token.startswith("▁") for token in tokens], dtype=np.float64),
        np.array([token[:1].isupper() for token in bare], dtype=np.float64),
        np.array([len(token) > 1 and token.isupper() for token in bare], dtype=np.float64),
        np.array([token.isascii() for token in bare], dtype=np.float64),
        np.array([token.isalpha() for token in bare], dtype=np.float64),
        np.array([len(token) for token in bare], dtype=np.float64),
    ]
    values = np.stack(columns, axis=1)
    return torch.from_numpy((values - values.mean(0)) / (values.std(0) + 1e-9)).float()


def counts(vocabulary: Vocabulary, texts: list[str]) -> Values:
    """How often each token occurs in `texts`."""
    rows = token_rows(list(vocabulary.segmenter.ids(texts)))
    return rows.spread(np.ones(len(texts)), len(vocabulary.pieces))


def fit(known: torch.Tensor, seen: Values, free: npt.NDArray[np.bool_]) -> Values:
    """The logarithm of each token's expected count: Poisson regression on the tokens that are `free`."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(known.shape[1], _WIDTH), torch.nn.GELU(),
        torch.nn.Linear(_WIDTH, _WIDTH), torch.nn.GELU(), torch.nn.Linear(_WIDTH, 1),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=1e-2)
    inputs, target = known[free], torch.from_numpy(seen[free]).float()
    for _ in range(_STEPS):
        optimizer.zero_grad()
        logs = network(inputs)[:, 0]
        (logs.exp() - target * logs).mean().backward()
        optimizer.step()
    with torch.no_grad():
        return np.asarray(network(known)[:, 0].double().numpy())


def share(order: Values, kept: npt.NDArray[np.bool_], judged: Values, rows: int) -> float:
    """Of the tokens `judged`, those among `kept` and the first of `order`, `rows` in all."""
    ranked = np.argsort(-np.where(kept, -np.inf, order), kind="stable")
    chosen = kept.copy()
    chosen[ranked[: rows - int(kept.sum())]] = True
    return round(float(judged[chosen].sum() / judged.sum()), 5)


if __name__ == "__main__":
    main()
