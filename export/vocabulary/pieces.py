"""A vocabulary as choosing sees it: what each piece spells, in which script, how likely it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ringkas.errors import MissingExtra
from ringkas.export.vocabulary.kinds import added_beyond, kind_of, vocabulary_size

Mask = npt.NDArray[np.bool_]
Weights = npt.NDArray[np.float64]


# Digits, punctuation and symbols: of western typography, and of the fullwidth kind.
_WESTERN = r"\x21-\x7e\u00a0-\u00bf\u00d7\u00f7\u2010-\u2027\u2030-\u205e\u20a0-\u20bf"
_EASTERN = r"\u3000-\u303f\uff01-\uff65"
_EASTERN_SCRIPTS = frozenset({"Hani", "Hang", "Hira", "Kana", "Bopo"})
# Five digits on end, three numbers in one piece, one sign four times but ASCII's: text has lines of - and _,
# and people write !!!!!! and .....
_UNUSUAL = r"\d{5}|\d\D+\d+\D+\d|([^\x21-\x7e])\1{3}"


@dataclass(frozen=True)
class Pieces:
    """Parallel by token id. `indispensable` are ids that the tokenizer itself needs; `parents` those that a
    token is built from; `probability` sums to one over all pieces, and `trust` is the power to which it
    tempers the frequencies of word lists."""

    surfaces: tuple[str, ...]
    probability: Weights
    indispensable: frozenset[int]
    parents: Mapping[int, tuple[int, ...]]
    trust: float = 0.0

    def __len__(self) -> int:
        return len(self.surfaces)

    @cached_property
    def single(self) -> Mask:
        """Pieces that spell one character (or none)."""
        return np.array([len(surface) <= 1 for surface in self.surfaces])

    @cached_property
    def lettered(self) -> Mask:
        """Pieces that hold a letter or a mark: of some script, unlike digits, punctuation and symbols."""
        return self._matching(r"[\p{L}\p{M}\uFFFD]", search=True)

    @cached_property
    def ascii(self) -> Mask:
        """Pieces of ASCII alone."""
        return np.array([surface.isascii() for surface in self.surfaces])

    def of_scripts(self, scripts: Sequence[str]) -> Mask:
        """Lettered pieces whose characters are all of `scripts`, or of no script."""
        listed = "".join(rf"\p{{sc={script}}}" for script in scripts)
        return self._matching(rf"[{listed}\p{{sc=Zyyy}}\p{{sc=Zinh}}]+") & self.lettered

    def unlettered_of(self, scripts: Sequence[str]) -> Mask:
        """Pieces without letters that hold digits or signs of `scripts` and of few others: not ASCII's."""
        return self._matching(rf"[{_written_in(scripts)}]", search=True) & ~self.lettered

    def stray(self, scripts: Sequence[str]) -> Mask:
        """Single digits of other scripts than `scripts`, and characters that Unicode gives no meaning."""
        return self._matching(rf"(?![{_written_in((*scripts, 'Zyyy'))}])\p{{Nd}}|[\p{{Co}}\p{{Cn}}]")

    def usual(self, scripts: Sequence[str]) -> Mask:
        """Pieces without letters as text in most languages, or in those of `scripts`, writes them.

        Long numbers, dates, runs of one sign beyond ASCII, and the digits and signs of other scripts are not.
        """
        eastern = _EASTERN if not _EASTERN_SCRIPTS.isdisjoint(scripts) else ""
        written = f"{_WESTERN}{eastern}{_written_in(scripts)}"
        return self._matching(rf"[{written}]*") & ~self._matching(_UNUSUAL, search=True)

    def in_repertoire(self, codec: str) -> Mask:
        """Pieces that a national character set can spell."""
        return np.array([_encodable(surface, codec) for surface in self.surfaces])

    @cached_property
    def _masks(self) -> dict[tuple[str, bool], Mask]:
        return {}

    def _matching(self, pattern: str, *, search: bool = False) -> Mask:
        """Languages ask for the same masks: each is made once."""
        if (pattern, search) not in self._masks:
            self._masks[pattern, search] = self._matched(pattern, search=search)
        return self._masks[pattern, search]

    def _matched(self, pattern: str, *, search: bool) -> Mask:
        try:
            import regex
        except ModuleNotFoundError:
            raise MissingExtra("regex", "prune") from None
        compiled = regex.compile(pattern)
        match = compiled.search if search else compiled.fullmatch
        return np.array([match(surface) is not None for surface in self.surfaces])


def _written_in(scripts: Sequence[str]) -> str:
    """For a set of characters: those that text in any of `scripts` is written with."""
    return "".join(rf"\p{{scx={script}}}" for script in scripts)


def read_pieces(document: Mapping[str, Any]) -> Pieces:
    """The pieces of a checked `tokenizer.json`, added tokens included."""
    kind, size = kind_of(document), vocabulary_size(document)
    surfaces = kind.surfaces(document) + [entry["content"] for entry in added_beyond(document)]
    special = {int(entry["id"]) for entry in document.get("added_tokens", [])}
    probability = np.zeros(size)
    logs = kind.log_probabilities(document)
    probability[: len(logs)] = np.exp(logs - logs.max())
    probability[list(special)] = 0.0  # specials have score zero, the highest, and are never chosen by it
    return Pieces(
        surfaces=tuple(surfaces),
        probability=probability / probability.sum(),
        indispensable=frozenset(kind.indispensable(document) | special),
        parents=kind.parents(document),
        trust=kind.TRUST,
    )


def _encodable(text: str, codec: str) -> bool:
    try:
        text.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
