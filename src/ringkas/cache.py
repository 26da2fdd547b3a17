"""The user's cache: what takes long to make and is wanted again, in one folder.

What was computed is kept by the content that it follows from: an entry's name has the digest of all that, so
that it is never stale, and its file begins with the SHA-256 of the rest, so that a damaged one is never used.
Those that were used least recently go when all together weigh more than `RINGKAS_CACHE_MB` megabytes.
"""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from ringkas.errors import RingkasError
from ringkas.files import read_whole, scratch_folder, sha256
from ringkas.machine import cpu_features, tool_versions

_DEFAULT_MB = 256
_SUFFIX = ".bin"
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Entry:
    """Something that is kept: its file, what kind it is of, its size in bytes, and when it was last used."""

    path: Path
    kind: str
    bytes: int
    used: datetime


def cache_folder() -> Path:
    """Where this user's caches of ringkas are: `RINGKAS_CACHE`, or the system's own place for such."""
    named = os.environ.get("RINGKAS_CACHE")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "ringkas" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ringkas"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ringkas"


def most_bytes() -> int:
    """What all entries may weigh together, by `RINGKAS_CACHE_MB`; with 0 nothing is kept or looked for.

    Raises:
        RingkasError: it is not a number of megabytes.
    """
    stated = os.environ.get("RINGKAS_CACHE_MB", "").strip() or str(_DEFAULT_MB)
    if not stated.isdecimal():
        raise RingkasError(
            f"RINGKAS_CACHE_MB is {stated!r}",
            why="it is not a whole number of megabytes",
            fix=f"Set it to what kept results may weigh, for example {_DEFAULT_MB}, or to 0 to keep none",
        )
    return int(stated) * 1_000_000


def key_of(*facts: Any) -> str:
    """The digest of `facts`, which JSON can hold, of this code and of the libraries and the processor.

    All that decides what a computation gives is in it, or is among the facts.
    """
    conditions = (_code(), tool_versions(), cpu_features(), facts)
    return hashlib.sha256(msgspec.json.encode(conditions, order="sorted", enc_hook=str)).hexdigest()


def folder_digest(folder: Path) -> str:
    """The digest of every file below a folder, with its name; what is hidden is not the folder's content."""
    rows = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_file() and not any(part.startswith(".") for part in name.parts):
            state = path.stat()
            rows.append((name.as_posix(), file_digest(path, state.st_size, state.st_mtime_ns)))
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


@cache
def file_digest(file: Path, size: int, modified: int) -> str:
    """The SHA-256 of a file; computed once a process unless its size or time of change moved."""
    return sha256(file)


def find(kind: str, key: str) -> bytes | None:
    """What was kept under a key; None where nothing was, or where it is damaged."""
    if not most_bytes():
        return None
    file = _file(kind, key)
    with suppress(OSError):
        data = read_whole(file)
        if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST]:
            os.utime(file)  # it is the one that was used last
            return data[_DIGEST:]
    return None


def keep(kind: str, key: str, data: bytes) -> None:
    """Keeps `data` under a key, and lets go of what was used least recently. A full disk keeps nothing."""
    most = most_bytes()
    if len(data) + _DIGEST > most:
        return
    with suppress(OSError), scratch_folder(_folder()) as scratch:
        (scratch / "entry").write_bytes(hashlib.sha256(data).digest() + data)
        (scratch / "entry").replace(_file(kind, key))
        _shrink(most)


def entries() -> list[Entry]:
    """What is kept, the last used first."""
    found = []
    for file in _folder().glob(f"*{_SUFFIX}"):
        with suppress(OSError):  # another process let go of it
            state = file.stat()
            used = datetime.fromtimestamp(state.st_mtime, UTC)
            found.append(Entry(file, file.name.partition("-")[0], state.st_size, used))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def clear() -> list[Entry]:
    """Lets go of all that is kept; what that was."""
    found = entries()
    for entry in found:
        entry.path.unlink(missing_ok=True)
    return found


def _file(kind: str, key: str) -> Path:
    return _folder() / f"{kind}-{key}{_SUFFIX}"


def _folder() -> Path:
    return cache_folder() / "kept"


def _shrink(most: int) -> None:
    total = 0
    for entry in entries():
        total += entry.bytes
        if total > most:
            entry.path.unlink(missing_ok=True)


@cache
def _code() -> str:
    """The digest of this package's own files, code and data: another version computes other things."""
    package, digest = Path(__file__).parent, hashlib.sha256()
    for folder, folders, names in os.walk(package, followlinks=True):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            file = Path(folder, name)
            digest.update(file.relative_to(package).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()
