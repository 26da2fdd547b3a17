"""Where a model's files are, and what the model is called: a folder's own name may say nothing of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ringkas.artifact import MANIFEST_FILE
from ringkas.builtin import BUILT_IN
from ringkas.errors import CheckpointError
from ringkas.files import expand
from ringkas.hub import fetch, fetched_commit, refuse_part, refuse_part_of_cache
from ringkas.known import KNOWN, Known, known
from ringkas.vocabulary import VOCABULARY_FILE

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+|[\w-]+")
_CACHED = re.compile(r"models--([\w.-]+?)--([\w.-]+)")


@dataclass(frozen=True)
class Place:
    """Where the files are, and what they are called.

    Args:
        path: the folder.
        origin: the hub id, the name of a built-in checkpoint, or the folder's bare name.
        revision: the hub's commit, where it is known.
        facts: what the table knows of it.
    """

    path: Path
    origin: str
    revision: str | None
    facts: Known


def locate(source: str, revision: str | None) -> Place:
    """Finds the folder of `source`: a folder, a hub id, or the name of a built-in checkpoint.

    Raises:
        CheckpointError: there is none, or it has no revisions.
    """
    if revision is not None and (source in BUILT_IN or expand(source).exists()):
        raise CheckpointError(
            f"{source} has no revisions", why="only a hub id has", fix="Leave --revision out"
        )
    if source in BUILT_IN:
        return Place(BUILT_IN[source].find(), source, None, BUILT_IN[source].facts)
    path = expand(source)
    if path.is_dir():
        return _folder(path.resolve())
    if path.is_file():
        raise CheckpointError(f"{source} is a file", fix="Name the checkpoint's folder")
    if source.startswith((".", "/", "~")) or not _HUB_ID.fullmatch(source):
        raise CheckpointError(
            f"there is no folder {source}",
            fix=f"Name a folder, a hub id such as org/name, or one of {', '.join(BUILT_IN)}",
        )
    path = fetch(source, revision)
    # The hub's cache keeps each snapshot in a folder named after its commit.
    return Place(path, source, path.name, known(source))


def _folder(path: Path) -> Place:
    cached = _CACHED.fullmatch(path.parent.parent.name) if path.parent.name == "snapshots" else None
    if cached is not None:
        origin = f"{cached[1]}/{cached[2]}"
        refuse_part_of_cache(path, origin)
        return Place(path, origin, path.name, known(origin))
    # What is derived from a model has its card, but is not that model.
    derived = any((path / name).is_file() for name in (VOCABULARY_FILE, MANIFEST_FILE))
    own = None if derived or path.name.lower() in KNOWN else _named_by_card(path)
    # A folder may be called as a built-in checkpoint is; what is made from it must not.
    origin = own or (f"./{path.name}" if path.name in BUILT_IN else path.name)
    commit = fetched_commit(path)
    if commit is not None:
        refuse_part(path, commit)
    return Place(path, origin, commit, known(origin))


def _named_by_card(path: Path) -> str | None:
    """The name that the model card gives to its own model, in its metadata or as its title."""
    card = path / "README.md"
    if not card.is_file():
        return None
    text = card.read_text(encoding="utf-8", errors="replace")
    front = re.match(r"---\n(.*?)\n---", text, re.DOTALL)
    index = re.search(
        r"^model-index:\s*\n-\s+name:\s*[\"']?(\S+?)[\"']?\s*$", front[1] if front else "", re.MULTILINE
    )
    if index is not None and _HUB_ID.fullmatch(index[1]):
        return index[1]
    title = re.search(r"^#{1,2} +(\S+?) *#*$", text[front.end() if front else 0 :], re.MULTILINE)
    # A title is whatever its author liked: it counts where the table knows that name.
    if title is not None and title[1].rsplit("/", 1)[-1].lower() in KNOWN:
        return title[1]
    return None
