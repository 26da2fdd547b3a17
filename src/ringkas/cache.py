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

from ringkas.artifact import MANIFEST_FILE
from ringkas.errors import RingkasError
from ringkas.files import read_whole, scratch_folder, sha256
from ringkas.machine import cpu_features, tool_versions

_DEFAULT_MB = 256
_SUFFIX = ".bin"
_DIGEST = hashlib.sha256().digest_size
# Where there is no cache to be had, nothing is kept and nothing found.
_NONE = (OSError, RuntimeError)
# Weights in formats that are not read: what is fetched from a hub leaves them out as well.
_OTHER_WEIGHTS = (".bin", ".pt", ".pth", ".onnx", ".onnx_data", ".h5", ".msgpack", ".gguf")
# The variables by which PyTorch and what it stands on are told how and where to compute.
_TELLING = ("CUDA_", "NVIDIA_", "ONEDNN_", "DNNL_", "MKL_", "TORCH_", "OPENBLAS_")


@dataclass(frozen=True)
class Entry:
    """Something that is kept: its file, what kind it is of, its size in bytes, and when it was last used."""

    path: Path
    kind: str
    bytes: int
    used: datetime


def cache_folder() -> Path:
    """Where this user's caches of ringkas are: `RINGKAS_CACHE`, or the system's own place for such.

    Raises:
        RuntimeError: the user has no home folder.
    """
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
    """The digest of `facts`, which JSON can hold, and of what else a computation here follows from.

    That is this package's own files, the libraries' versions, the processor's features, whether there is an
    NVIDIA device, and the variables by which the libraries are told how exact to be.

    Raises:
        OSError: a file of the package cannot be read.
    """
    told = {name: value for name, value in os.environ.items() if name.startswith(_TELLING)}
    device = Path("/dev/nvidiactl").exists()
    conditions = (folder_digest(Path(__file__).parent), tool_versions(), cpu_features(), device, told, facts)
    return hashlib.sha256(msgspec.json.encode(conditions, order="sorted", enc_hook=str)).hexdigest()


def folder_digest(folder: Path) -> str:
    """The digest of every file below a folder, with its name, wherever links lead.

    But for what a checkpoint's folder may hold that nothing of a build follows from: hidden files, weights in
    other formats, and artifacts.

    Raises:
        OSError: a file cannot be read.
        ValueError: a name is not UTF-8.
    """
    rows, entered = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        true = os.path.realpath(place)
        if true in entered or (place != str(folder) and MANIFEST_FILE in names):
            folders.clear()
            continue
        entered.add(true)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__pycache__")))
        for name in sorted(names):
            file = Path(place, name)
            if not name.startswith(".") and not name.endswith(_OTHER_WEIGHTS) and file.is_file():
                state = file.stat()
                digest = file_digest(file, state.st_size, state.st_mtime_ns)
                rows.append((file.relative_to(folder).as_posix(), digest))
    return hashlib.sha256(msgspec.json.encode(rows)).hexdigest()


@cache
def file_digest(file: Path, size: int, modified: int) -> str:
    """The SHA-256 of a file; computed once a process unless its size or time of change moved."""
    return sha256(file)


def find(kind: str, key: str) -> bytes | None:
    """What was kept under a key; None where nothing was, or where it is damaged."""
    most = most_bytes()
    if not most:
        return None
    try:
        data = read_whole(file := _file(kind, key), most)
    except _NONE:
        return None
    if hashlib.sha256(data[_DIGEST:]).digest() != data[:_DIGEST]:
        return None
    with suppress(OSError):  # who may only read it cannot say that it was used
        os.utime(file)
    return data[_DIGEST:]


def keep(kind: str, key: str, data: bytes) -> None:
    """Keeps `data` under a key, and lets go of what was used least recently. A full disk keeps nothing."""
    most = most_bytes()
    if len(data) + _DIGEST > most:
        return
    with suppress(*_NONE), scratch_folder(kept_folder()) as scratch:
        (scratch / "entry").write_bytes(hashlib.sha256(data).digest() + data)
        (scratch / "entry").replace(_file(kind, key))
        _shrink(most)


def entries() -> list[Entry]:
    """What is kept, the last used first."""
    found = []
    with suppress(*_NONE):
        for file in kept_folder().glob(f"*{_SUFFIX}"):
            with suppress(OSError):  # another process let go of it
                state = file.stat()
                used = datetime.fromtimestamp(state.st_mtime, UTC)
                if file.is_file():
                    found.append(Entry(file, file.name.partition("-")[0], state.st_size, used))
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def clear() -> list[Entry]:
    """Lets go of all that is kept and may be removed; what that was."""
    found = entries()
    for entry in found:
        with suppress(OSError):
            entry.path.unlink(missing_ok=True)
    return [entry for entry in found if not entry.path.exists()]


def kept_folder() -> Path:
    """Where results are kept. Raises as `cache_folder` does."""
    return cache_folder() / "kept"


def _file(kind: str, key: str) -> Path:
    return kept_folder() / f"{kind}-{key}{_SUFFIX}"


def _shrink(most: int) -> None:
    total = 0
    for entry in entries():
        total += entry.bytes
        if total > most:
            entry.path.unlink(missing_ok=True)
