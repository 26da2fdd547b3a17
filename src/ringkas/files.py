"""Files written so that nobody ever sees half of one."""

from __future__ import annotations

import glob
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from ringkas.errors import ArtifactError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_CHUNK = 1 << 20  # of a file that is hashed


def is_inside(name: str) -> bool:
    """Whether a relative path from a manifest stays in its folder.

    Judged by the name alone: the hub's cache links each file to a blob elsewhere, rightly.
    """
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and "\\" not in name


def write_json(file: Path, value: Any) -> None:
    """Writes `value` as JSON, whole or not at all."""
    write_bytes(file, msgspec.json.format(msgspec.json.encode(value), indent=1) + b"\n")


def write_text(file: Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all."""
    write_bytes(file, text.encode("utf-8"))


def write_bytes(file: Path, data: Buffer) -> None:
    """Writes `data`, bytes or any buffer, beside `file` and renames it into place: nobody sees half of it.

    A link to a file is replaced, not what it leads to: in the hub's cache that is a blob named by its hash.
    What is no file is written to: a rename would put a file in the place of /dev/null.
    """
    if _is_stream(file):
        with file.open("wb") as stream:
            stream.write(data)
        return
    with staged_file(file) as partial, partial.open("wb") as stream:
        stream.write(data)


@contextmanager
def staged_file(place: Path) -> Iterator[Path]:
    """A name beside `place` for a new file, which is renamed into it when the block ends well, else removed.

    What killed runs left unfinished beside it is swept first.
    """
    _sweep(place)
    with _unfinished(place) as partial:
        yield partial
        partial.replace(place)


def require_folder_of(file: Path) -> None:
    """Raises `ArtifactError` where there is no folder to write `file` into: asked before the work is done."""
    if not file.parent.is_dir():
        raise ArtifactError(
            f"there is no folder {file.parent} to write {file.name} into", fix="Make it first"
        )


@contextmanager
def staged_folder(place: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside `place` that is renamed into it when the block ends well, else removed.

    An earlier folder stays as it is until that rename. What a killed run left behind is swept first.

    Raises:
        ArtifactError: `place` exists and `overwrite` is false, is not a folder, or cannot be written.
    """
    place = Path(os.path.abspath(place))
    if not place.name:
        raise ArtifactError(f"{place} cannot be replaced by a new folder", fix="Name a folder in it")
    previous = place.with_name(f".{place.name}.previous")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _restore(place, previous)
        _sweep(place)
        refuse_existing([place], overwrite=overwrite)
        with _unfinished(place) as partial:
            partial.mkdir()
            yield partial
            _swap(partial, place, previous)
    except OSError as error:
        # The block reads files too: what is at fault is named.
        named = Path(error.filename) if isinstance(error.filename, str) else place
        outside = not named.is_relative_to(place.parent)
        raise ArtifactError(
            f"cannot read {named}" if outside else f"cannot write {place}",
            why=error.strerror or str(error),
            fix="Nothing was left half-written",
        ) from error


@contextmanager
def scratch_folder(place: Path) -> Iterator[Path]:
    """A folder in `place` for what is only needed meanwhile; those of killed runs are swept first."""
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place / "scratch")
    with _unfinished(place / "scratch") as folder:
        folder.mkdir()
        yield folder


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def xxh3(file: Path) -> str:
    """The 128-bit XXH3 of a file, in hex: finds damage some ten times as fast as SHA-256, but no forgery."""
    digest = xxhash.xxh3_128()
    with file.open("rb", buffering=0) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def refuse_existing(places: Iterable[Path], *, overwrite: bool = False) -> None:
    """Raises `ArtifactError` for the first of `places` that may not be written."""
    for place in places:
        if place.is_symlink() or place.is_file():
            raise ArtifactError(
                f"{place} is not a folder of its own", fix="Remove it, or choose another folder"
            )
        if place.exists() and not overwrite:
            raise ArtifactError(f"{place} exists", fix="Add --overwrite, or choose another folder")


def _is_stream(file: Path) -> bool:
    """Whether `file` is a device, a pipe or an open file such as /dev/stdout, whatever that leads to."""
    is_open = file.is_symlink() and file.absolute().parts[1:2] in (("dev",), ("proc",))
    return is_open or (file.exists() and not file.is_file())


# What this process is writing: its own number on anything else is a killed namesake's.
_active: set[Path] = set()


@contextmanager
def _unfinished(place: Path) -> Iterator[Path]:
    """A name beside `place` for what becomes it; whatever still has it when the block ends is removed."""
    partial = place.with_name(f".{place.name}.partial-{os.getpid()}-{secrets.token_hex(4)}")
    _active.add(partial)
    try:
        yield partial
    finally:
        _remove(partial)
        _active.discard(partial)


def _swap(partial: Path, place: Path, previous: Path) -> None:
    if place.exists():
        place.rename(previous)
    try:
        partial.rename(place)
    except OSError:
        if previous.exists():
            previous.rename(place)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _restore(place: Path, previous: Path) -> None:
    if previous.exists():
        # A run was killed between its two renames (put the old one back) or after them (drop it).
        if place.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(place)


def _sweep(place: Path) -> None:
    """Removes what killed runs left unfinished beside `place`."""
    prefix = f".{place.name}.partial-"
    for partial in place.parent.glob(f"{glob.escape(prefix)}*"):
        pid = partial.name.removeprefix(prefix).split("-")[0]
        if partial not in _active and (pid == str(os.getpid()) or not _is_running(pid)):
            _remove(partial)


def _remove(partial: Path) -> None:
    if partial.is_dir():
        shutil.rmtree(partial, ignore_errors=True)
    else:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _is_running(pid: str) -> bool:
    if os.name == "nt":
        return True  # there 0 is CTRL_C_EVENT: asking would end the process
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
