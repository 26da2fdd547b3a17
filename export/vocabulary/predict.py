"""What share of texts will be segmented as before: said before anything is written and any text is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ringkas.export.vocabulary.certificate import Prediction
from ringkas.export.vocabulary.counting import CorpusCounts
from ringkas.export.vocabulary.pieces import Mask
from ringkas.export.vocabulary.segment import Segmenter
from ringkas.export.vocabulary.usage import Usage


def predict(
    usage: Usage, corpora: Mapping[str, CorpusCounts], segmenter: Segmenter, kept: Mask
) -> dict[str, Prediction]:
    """The prediction for each language of `usage`, when the tokens `kept` are.

    By the kind's theorem it is the share of texts that lose no token: counted on the part of a corpus that
    neither chooses nor judges, and without a corpus what the expected use of tokens comes to.
    """
    found = {}
    for tag, changed in usage.changed(kept).items():
        corpus = corpora.get(tag)
        if corpus is not None and corpus.set_aside:
            whole = [bool(kept[ids].all()) for ids in segmenter.ids(corpus.set_aside)]
            by = f"{len(whole)} texts that neither chose nor judge"
            found[tag] = Prediction(float(np.mean(whole)), by)
        else:
            found[tag] = Prediction(1.0 - changed, "expected use")
    return found


def beside_corpora(usage: Usage, kept: Mask, without: Mask) -> Sequence[str]:
    """Notes on text in general: what is expected of it, with the corpora that chose `kept`, and `without`."""
    before, after = usage.changed(without), usage.changed(kept)
    return [
        f"{tag}: of text unlike the corpora {1 - after[tag]:.1%} is expected to be segmented as before, "
        f"{1 - before[tag]:.1%} without them"
        for tag in usage.by_language
    ]
