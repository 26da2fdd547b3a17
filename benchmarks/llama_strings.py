"""What users of llama.cpp get who send it strings: how often other token ids, and how far off the vectors."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ringkas.artifact import Artifact
from ringkas.errors import ArtifactError
from ringkas.runtimes.encoder import Encoder
from ringkas.runtimes.engines.llama_engine import LlamaEngine
from ringkas.runtimes.parity.judge import cosine
from ringkas.tokens import TextTokenizer

# Known differences between llama.cpp's tokenizers and the reference's.
KNOWN_DIFFERENCES = (
    "decomposed accents (NFD) where the reference's normalizer composes them",
    "a zero-width space beside a space or at the end of a text (Khmer and Thai use it between words)",
    "U+0085 and other control characters that one side takes for a space",
    "special tokens written out in a text, such as </s>, which llama.cpp may take for the token itself",
)


@dataclass(frozen=True)
class StringReport:
    """One language: `same` of `texts` were segmented alike; cosines of strings against ids, over all."""

    texts: int
    same: int
    cosine_min: float
    cosine_mean: float
    different: str = ""  # the first text that was not


def llama_tokens(engine: LlamaEngine, texts: Sequence[str]) -> list[list[int]]:
    """The ids that llama.cpp itself gives, special tokens added, none parsed from the text."""
    llama, vocabulary = engine.bindings()
    found = []
    for text in texts:
        data = text.encode("utf-8")
        room = len(data) + 16
        ids = (ctypes.c_int32 * room)()
        count = llama.llama_tokenize(vocabulary, data, len(data), ids, room, True, False)
        if count < 0:
            raise ArtifactError("llama.cpp could not segment a text")
        found.append(list(ids[:count]))
    return found


def compare_strings(
    artifact: Artifact, texts: Mapping[str, Sequence[str]], threads: int | None = None
) -> dict[str, StringReport]:
    """Sends `texts`, by language, as strings and as ids to a GGUF artifact's engine.

    Texts over the artifact's length are left out: llama.cpp's own truncation drops the closing token.
    """
    spec = artifact.manifest.encoding
    tokenizer = TextTokenizer(artifact.path, spec)
    reports = {}
    with LlamaEngine(artifact, threads) as engine:
        encoder = Encoder(spec, tokenizer, engine)
        for language, group in texts.items():
            ours = tokenizer.encode(list(group)) if group else []
            theirs = llama_tokens(engine, group)
            short = [row for row, ids in enumerate(theirs) if max(len(ids), len(ours[row])) < spec.max_length]
            if short:
                reports[language] = _report(
                    encoder,
                    [group[row] for row in short],
                    [ours[row] for row in short],
                    [theirs[row] for row in short],
                )
    return reports


def _report(
    encoder: Encoder, texts: Sequence[str], ours: Sequence[list[int]], theirs: Sequence[list[int]]
) -> StringReport:
    changed = [row for row in range(len(texts)) if ours[row] != theirs[row]]
    cosines = np.ones(len(texts))
    if changed:
        a = encoder.encode_ids([ours[row] for row in changed])
        b = encoder.encode_ids([theirs[row] for row in changed])
        cosines[changed] = cosine(a, b)
    return StringReport(
        len(texts),
        len(texts) - len(changed),
        float(cosines.min()),
        float(cosines.mean()),
        texts[changed[0]][:80] if changed else "",
    )
