"""What each number of rows would keep, before choosing one: the picture behind `--plot`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ringkas import texts as text_sets
from ringkas.export.vocabulary.plot import Curve, check_place, draw
from ringkas.export.vocabulary.prune import Plan, judging_texts
from ringkas.export.vocabulary.segment import Segmenter
from ringkas.export.vocabulary.select import Limits, choose

_POINTS = 12


def vocabulary_curve(plan: Plan, rows: Iterable[int] = ()) -> Curve:
    """The share of judging texts that keep all tokens, by language, at each of `rows`.

    Without `rows`, at steps from what is always kept to the whole vocabulary. By the kind's theorem that
    share is the share of texts that are segmented as before, so nothing is written.
    """
    weighed, document = plan.weighed, plan.document
    segmenter = Segmenter(document, lower_case=plan.checkpoint.spec.lower_case)
    segmented = {
        tag: [np.array(ids, dtype=np.int64) for ids in segmenter.ids(texts)]
        for tag, (_, texts) in judging_texts(plan).items()
        if tag != text_sets.UNDETERMINED
    }
    smallest = int(choose(weighed.pieces, weighed.usage, weighed.must, Limits(coverage=1e-9)).sum())
    steps = sorted(rows) or np.geomspace(smallest, len(weighed.pieces), _POINTS).astype(int).tolist()
    shares: dict[str, list[float]] = {tag: [] for tag in segmented}
    for step in steps:
        kept = choose(
            weighed.pieces, weighed.usage, weighed.must, Limits(max_tokens=step), plan.options.weights
        )
        for tag, texts in segmented.items():
            shares[tag].append(float(np.mean([kept[ids].all() for ids in texts])))
    marks = {"chosen": plan.options.max_tokens} if plan.options.max_tokens else {}
    return Curve(f"{plan.checkpoint.name}: {', '.join(segmented)}", steps, shares, marks)


def plot_checkpoint(plan: Plan, file: Path) -> None:
    """Draws the curve of `plan` into the PNG `file`."""
    check_place(file)
    draw(vocabulary_curve(plan), file)
