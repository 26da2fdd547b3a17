"""The three kinds of `tokenizer.json`, by the name that its model gives itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ringkas.errors import CheckpointError
from ringkas.export.vocabulary import bpe, unigram, wordpiece
from ringkas.tokenizer_config import resolve
from ringkas.tokens import TOKENIZER_FILE

Document = Mapping[str, Any]


class Kind(Protocol):
    """What each kind's module offers."""

    THEOREM: str
    TRUST: float

    def tokens(self, document: Document) -> list[str]: ...
    def surfaces(self, document: Document) -> list[str]: ...
    def log_probabilities(self, document: Document) -> npt.NDArray[np.float64]: ...
    def indispensable(self, document: Document) -> set[int]: ...
    def parents(self, document: Document) -> dict[int, tuple[int, ...]]: ...
    def rewrite(self, document: Document, kept: Sequence[int]) -> dict[str, Any]: ...


KINDS: Mapping[str, Kind] = {"Unigram": unigram, "WordPiece": wordpiece, "BPE": bpe}

# Options of BPE that change how tokens are spelled or merged, and that no embedding checkpoint here uses.
_UNSUPPORTED = ("continuing_subword_prefix", "end_of_word_suffix", "dropout")


def read_document(folder: Path) -> dict[str, Any]:
    """`tokenizer.json` as the folder uses it, checked to be one that can be pruned.

    Raises:
        CheckpointError: it is missing, unreadable, of an unsupported kind, or its ids have gaps.
    """
    file = folder / TOKENIZER_FILE
    try:
        document: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        kind = str(document["model"].get("type"))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{file} cannot be read as a tokenizer", why=str(error)) from None
    if kind not in KINDS:
        raise CheckpointError(
            f"{file} holds a {kind} model", fix="Vocabularies that can be cut: " + ", ".join(KINDS)
        )
    options = [name for name in _UNSUPPORTED if kind == "BPE" and document["model"].get(name)]
    if options:
        raise CheckpointError(f"{file} uses {options[0]}", why="its merges cannot be told apart by spelling")
    _check_ids(file, document)
    return resolve(document, folder)


def kind_of(document: Document) -> Kind:
    """The module for the document's model."""
    return KINDS[str(document["model"]["type"])]


def added_beyond(document: Document) -> list[dict[str, Any]]:
    """Added tokens that the model itself lacks, by id: they follow its vocabulary."""
    known = set(kind_of(document).tokens(document))
    added = [entry for entry in document.get("added_tokens", []) if entry["content"] not in known]
    return sorted(added, key=lambda entry: int(entry["id"]))


def vocabulary_size(document: Document) -> int:
    """The number of ids that a text can get."""
    return len(document["model"]["vocab"]) + len(added_beyond(document))


def _check_ids(file: Path, document: Document) -> None:
    vocabulary = document["model"]["vocab"]
    ids = sorted(vocabulary.values()) if isinstance(vocabulary, Mapping) else list(range(len(vocabulary)))
    ids += [int(entry["id"]) for entry in added_beyond(document)]
    if ids != list(range(len(ids))):
        raise CheckpointError(
            f"the token ids of {file} have gaps or repeat",
            why="the rows of the embedding table cannot be told apart",
            fix="Save the tokenizer again with a current transformers",
        )
