"""How good a pruned vocabulary is, on text that did not choose it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from ringkas.artifact import Witness
from ringkas.errors import CheckpointError
from ringkas.export.vocabulary.kinds import kind_of
from ringkas.export.vocabulary.segment import Segmenter, characters_of
from ringkas.runtimes.parity.judge import cosine
from ringkas.runtimes.parity.neighbours import NEIGHBOURS, share_kept, similarities

Vectors = npt.NDArray[np.float32]


class Change(msgspec.Struct, frozen=True):
    """One figure with the full vocabulary and with the pruned one."""

    before: float
    after: float


class Similarity(msgspec.Struct, frozen=True):
    """Cosine of pruned and full model on texts whose segmentation changed, and what a search makes of them.

    `top10_overlap` is how many of the ten nearest encoded texts of all languages stay the ten nearest, as a
    share: the changed text asks by its new vector, and finds the full model's. None where there are too few.
    """

    texts: int
    minimum: float
    mean: float
    top10_overlap: float | None = None


class Prediction(msgspec.Struct, frozen=True):
    """The share of texts expected to be segmented as before, and what says so, before any was judged."""

    identical: float
    by: str


class LanguageReport(msgspec.Struct, frozen=True, kw_only=True):
    """One language. Shares are of one; `unknown_characters` counts characters, for runs of unknown merge.

    `tokens_kept` is the share of the full model's tokens that the pruned vocabulary has, the special ones
    around a text not counted;
    `covered_bit_identical` how many unchanged texts were encoded by both models, all to the last bit.
    """

    text: str
    texts: int
    tokens: int
    characters: int
    identical: float
    tokens_kept: float
    tokens_per_character: Change
    unknown_characters: Change
    past_limit: Change
    changed: Similarity | None = None
    covered_bit_identical: int = 0
    predicted: Prediction | None = None


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """The whole certificate; `as_dict` is what manifests hold."""

    kind: str
    theorem: str
    languages: tuple[str, ...]
    selection: dict[str, Any]
    rows: Change
    parameters: Change
    bytes: Change
    kept_ids_sha256: str
    source: dict[str, str | None]
    by_language: dict[str, LanguageReport]
    notes: tuple[str, ...] = ()
    witness: Witness | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as JSON has them."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


@dataclass(frozen=True)
class Comparison:
    """Both vocabularies. `kept` gives the old id of each new id; `limit` counts tokens of
    a text without the special ones around it."""

    full: Segmenter
    pruned: Segmenter
    kept: Sequence[int]
    unknown: frozenset[int]
    limit: int
    with_unknown_words: bool


@dataclass(frozen=True)
class Segmented:
    """A language's report, and which texts changed or did not, for the encoders."""

    report: LanguageReport
    changed: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)


def compare_segmentation(comparison: Comparison, texts: Sequence[str], text: str) -> Segmented:
    """The report on `texts`, which the certificate calls `text`, without the cosines.

    Raises:
        CheckpointError: no text, or one that is covered and was segmented otherwise than before.
    """
    if not texts:
        raise CheckpointError(
            f"there is no {text} to judge the vocabulary by", why="zero texts prove nothing"
        )
    old_rows, new_rows = list(comparison.full.ids(texts)), list(comparison.pruned.ids(texts))
    kept = set(comparison.kept)
    changed: list[str] = []
    same: list[str] = []
    tokens = tokens_kept = tokens_after = 0
    for content, old, new in zip(texts, old_rows, new_rows, strict=True):
        identical = [comparison.kept[id] for id in new] == old
        present = sum(id in kept for id in old)
        if present == len(old) and not identical and not _excepted(comparison, old):
            raise CheckpointError(
                f"the pruned tokenizer segments a covered text otherwise than before: {content[:60]!r}",
                why="all its tokens are kept, so the vocabulary was rewritten wrongly",
                fix="Nothing was written; please report it",
            )
        (same if identical else changed).append(content)
        tokens, tokens_kept, tokens_after = tokens + len(old), tokens_kept + present, tokens_after + len(new)
    characters = max(1, sum(map(len, texts)))
    report = LanguageReport(
        text=text,
        texts=len(texts),
        tokens=tokens,
        characters=characters,
        identical=len(same) / len(texts),
        tokens_kept=tokens_kept / max(1, tokens),
        tokens_per_character=Change(tokens / characters, tokens_after / characters),
        unknown_characters=_unknown(comparison, texts, old_rows, new_rows),
        past_limit=Change(_past(old_rows, comparison.limit), _past(new_rows, comparison.limit)),
    )
    return Segmented(report, changed, same)


def unknown_ids(document: Mapping[str, Any]) -> frozenset[int]:
    """Ids that stand for what the vocabulary cannot spell: the unknown token, and fallback bytes."""
    model = document["model"]
    tokens = kind_of(document).tokens(document)
    found = {id for id, token in enumerate(tokens) if len(token) == 6 and token.startswith("<0x")}
    if model.get("unk_id") is not None:
        found.add(int(model["unk_id"]))
    if model.get("unk_token") in tokens:
        found.add(tokens.index(model["unk_token"]))
    return frozenset(found)


def similarity(full: Vectors, pruned: Vectors, others: Vectors) -> Similarity:
    """Of two float arrays of shape (texts, dimension), row by row; `others` are full vectors to search in."""
    cosines = cosine(full, pruned)
    return Similarity(
        len(cosines), float(cosines.min()), float(cosines.mean()), _overlap(full, pruned, others)
    )


def _overlap(full: Vectors, pruned: Vectors, others: Vectors) -> float | None:
    if len(others) < 2 * NEIGHBOURS:
        return None
    return share_kept(similarities(full, others), similarities(pruned, others))


def to_markdown(certificate: Mapping[str, Any]) -> str:
    """The certificate, as `Certificate.as_dict` gives it, as a section of a model card."""
    rows, saved, size = certificate["rows"], certificate["bytes"], certificate["parameters"]
    lines = [
        f"## Vocabulary: {', '.join(certificate['languages'])}",
        "",
        f"{rows['after']:,.0f} of {rows['before']:,.0f} rows; "
        f"{size['after'] / 1e6:.1f} of {size['before'] / 1e6:.1f} million parameters; "
        f"{(saved['before'] - saved['after']) / 1e6:.1f} MB saved. {certificate['theorem']}",
        "",
        "| language | judged on | texts | identical | predicted | tokens kept | tokens per character | "
        "unknown characters | past the limit | cosine of changed texts, top 10 kept |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for language, report in certificate["by_language"].items():
        changed = report["changed"]
        cosine = "none"
        if changed:
            overlap = changed.get("top10_overlap")
            cosine = f"{changed['minimum']:.4f} / {changed['mean']:.4f} ({changed['texts']})"
            cosine += "" if overlap is None else f", {overlap:.1%}"
        lines.append(
            f"| {language} | {report['text']} | {report['texts']} | {report['identical']:.1%} | "
            f"{predicted(report)} | {report['tokens_kept']:.2%} | "
            f"{_arrow(report['tokens_per_character'], '.3f')} | "
            f"{_arrow(report['unknown_characters'], '.0f')} | "
            f"{_arrow(report['past_limit'], '.1%')} | {cosine} |"
        )
    listed = certificate["by_language"].values()
    samples = "{:,} texts, {:,} tokens, {:,} characters".format(
        *(sum(report[unit] for report in listed) for unit in ("texts", "tokens", "characters"))
    )
    equal = sum(report["covered_bit_identical"] for report in listed)
    lines += [
        "",
        f"Judged on {samples}; {equal} covered texts were encoded by both models, equal to the last bit.",
    ]
    notes = [f"- {note}" for note in certificate["notes"]]
    return "\n".join([*lines, *([""] if notes else []), *notes, ""])


def predicted(report: Mapping[str, Any]) -> str:
    """What was predicted of a language's report, in words; earlier versions predicted nothing."""
    found = report.get("predicted")
    return f"{found['identical']:.1%} by {found['by']}" if found else "not"


def _arrow(change: Mapping[str, float], form: str) -> str:
    return f"{change['before']:{form}} to {change['after']:{form}}"


def _excepted(comparison: Comparison, ids: Sequence[int]) -> bool:
    return comparison.with_unknown_words and not comparison.unknown.isdisjoint(ids)


def _unknown(
    comparison: Comparison, texts: Sequence[str], old: Sequence[Sequence[int]], new: Sequence[Sequence[int]]
) -> Change:
    new_unknown = frozenset(id for id, old_id in enumerate(comparison.kept) if old_id in comparison.unknown)
    return Change(
        _unknown_characters(comparison.full, texts, old, comparison.unknown),
        _unknown_characters(comparison.pruned, texts, new, new_unknown),
    )


def _unknown_characters(
    segmenter: Segmenter, texts: Sequence[str], rows: Sequence[Sequence[int]], unknown: frozenset[int]
) -> int:
    affected = [text for text, ids in zip(texts, rows, strict=True) if not unknown.isdisjoint(ids)]
    return sum(characters_of(encoding, unknown) for encoding in segmenter.encodings(affected))


def _past(rows: Sequence[Sequence[int]], limit: int) -> float:
    return sum(len(row) > limit for row in rows) / len(rows)
