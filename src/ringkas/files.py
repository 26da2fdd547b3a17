"""Files written so that nobody ever sees half of one."""

from __future__ import annotations

import ctypes
import errno
import glob
import hashlib
import os
import secrets
import shutil
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from ringkas.errors import ArtifactError

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Of a file that is hashed: what was read stays in the processor's own cache, and in one buffer, whose pages
# are touched once.
_CHUNK = 1 << 18


def is_inside(name: str) -> bool:
    """Whether a relative path from a manifest stays in its folder, and can be a file's at all.

    Judged by the name alone: the hub's cache links each file to a blob elsewhere, rightly.
    """
    path = PurePosixPath(name)
    possible = "\0" not in name and all(len(part.encode("utf-8", "replace")) <= 255 for part in path.parts)
    return possible and not path.is_absolute() and ".." not in path.parts and "\\" not in name


def expand(path: str | Path) -> Path:
    """`path` with a leading `~` as the home folder, for a shell does not see into `--out=~/dist`."""
    return Path(os.path.expanduser(path))


LFS_POINTER = b"version https://git-lfs.github.com/spec/"
NOT_FETCHED = "it is a Git-LFS pointer: the file that it names was not fetched"


def why_unreadable(file: Path) -> str:
    """Why a file that is there cannot be used, where no library that opens it says so clearly; else ""."""
    if not file.exists():
        return "it is a link, and what it names is not there"
    if not os.access(file, os.R_OK):
        return os.strerror(errno.EACCES)
    if not file.is_file():
        return "it is not a regular file"
    with file.open("rb") as stream:
        return NOT_FETCHED if stream.read(len(LFS_POINTER)) == LFS_POINTER else ""


# A JSON file that is read whole: twice the largest tokenizer.json of a quarter of a million tokens.
MOST_JSON = 1 << 27


def read_whole(file: Path, most: int = MOST_JSON) -> bytes:
    """The content of a regular file of at most `most` bytes.

    A pipe would be waited for, a device or a file of holes read until the memory is full.

    Raises:
        OSError: there is none, it is not regular, is larger, or may not be read.
    """
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(file))
    if found.st_size > most:
        raise OSError(errno.EFBIG, f"it has {found.st_size} bytes, more than the {most} allowed", str(file))
    return file.read_bytes()


def require_utf8(path: Path) -> None:
    """Raises `ArtifactError` for a name that is not UTF-8: neither JSON nor the engines can hold it."""
    try:
        str(path.absolute()).encode("utf-8")
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "replace")
        if "\ufffd" in shown:
            raise ArtifactError(f"the name of {shown} is not UTF-8", fix="Rename it") from None
        raise ArtifactError(
            f"the locale has no letters for the name of {shown}", fix="Set PYTHONUTF8=1"
        ) from None


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
    file = expand(file)
    if _is_stream(file):
        with file.open("wb") as stream:
            stream.write(data)
        return
    with staged_file(file) as partial, partial.open("wb") as stream:
        stream.write(data)


@contextmanager
def staged_file(place: Path) -> Iterator[Path]:
    """An empty file beside `place`, which is renamed into it when the block ends well, else removed.

    What killed runs left unfinished beside it is swept first.
    """
    place = expand(place)
    _sweep(place)
    with _unfinished(place, folder=False) as partial:
        yield partial
        partial.replace(place)


def require_folder_of(file: Path) -> None:
    """Raises `ArtifactError` where there is no folder to write `file` into: asked before the work is done."""
    file = expand(file)
    if _is_stream(file):
        return
    if not file.parent.is_dir():
        raise ArtifactError(
            f"there is no folder {file.parent} to write {file.name} into", fix="Make it first"
        )
    _require_writable(file.parent, file)


def _require_writable(folder: Path, place: Path) -> None:
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ArtifactError(
            f"{folder} may not be written to",
            why=f"{place.name} cannot be made there",
            fix="Choose another folder, or ask its owner",
        )


@contextmanager
def staged_folder(place: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A new folder beside `place` that is renamed into it when the block ends well, else removed.

    An earlier folder stays as it is until that rename. What a killed run left behind is swept first. Of two
    runs that make the same place the first to end well has it: the other is refused, unless it overwrites.

    Raises:
        ArtifactError: `place` exists and `overwrite` is false, is not a folder, or cannot be written.
    """
    place = Path(os.path.abspath(expand(place)))
    if not place.name:
        raise ArtifactError(f"{place} cannot be replaced by a new folder", fix="Name a folder in it")
    previous = place.with_name(f".{place.name}.previous")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        _restore(place, previous)
        _sweep(place)
        refuse_existing([place], overwrite=overwrite)
        with _unfinished(place, folder=True) as partial:
            yield partial
            _share(partial)
            if overwrite:
                _swap(partial, place, previous)
            else:
                _place(partial, place)
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
    place = expand(place)
    place.mkdir(parents=True, exist_ok=True)
    _sweep(place / "scratch")
    with _unfinished(place / "scratch", folder=True) as folder:
        yield folder


def left_unfinished(path: Path) -> Path | None:
    """The folder at or above `path` that a killed run was making and never finished, if there is one.

    What a run is still making, this one or another, is not meant.
    """
    making = {partial.name for partial in _active}
    path = path.absolute()
    for folder in (path, *path.parents):
        name, unfinished, ending = folder.name.partition(_UNFINISHED)
        if (
            unfinished
            and name.startswith(".")
            and folder.name not in making
            and _is_abandoned(folder, ending)
        ):
            return folder
    return None


def sha256(file: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def xxh3(file: Path) -> str:
    """The 128-bit XXH3 of a file, in hex: finds damage some ten times as fast as SHA-256, but no forgery."""
    digest = xxhash.xxh3_128()
    buffer = memoryview(bytearray(_CHUNK))
    with file.open("rb", buffering=0) as stream:
        while count := stream.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


def refuse_existing(places: Iterable[Path], *, overwrite: bool = False) -> None:
    """Raises `ArtifactError` for the first of `places` that may not be written: asked before any work."""
    for place in map(expand, places):
        if place.is_symlink() or place.is_file():
            raise ArtifactError(
                f"{place} is not a folder of its own", fix="Remove it, or choose another folder"
            )
        if place.exists() and not overwrite:
            raise ArtifactError(f"{place} exists", fix="Add --overwrite, or choose another folder")
        above = next(parent for parent in place.absolute().parents if parent.exists())
        if not above.is_dir():
            raise ArtifactError(f"cannot write {place}", why=f"{above} is no folder")
        _require_writable(above, place)


def _is_stream(file: Path) -> bool:
    """Whether `file` is a device, a pipe or an open file such as /dev/stdout, whatever that leads to."""
    is_open = file.is_symlink() and file.absolute().parts[1:2] in (("dev",), ("proc",))
    return is_open or (file.exists() and not file.is_file())


# AT_FDCWD, and RENAME_EXCHANGE of renameat2.
_HERE, _EXCHANGE = -100, 2
# What this process is writing: its own number on anything else is a killed namesake's.
_active: set[Path] = set()
_UNFINISHED = ".partial-"
# A lock is taken within a moment of making what it holds; younger than this, nothing is swept without one.
_SECONDS_TO_LOCK = 10


@contextmanager
def _unfinished(place: Path, *, folder: bool) -> Iterator[Path]:
    """A folder or a file beside `place` that becomes it; if it still has its name at the end, it is removed.

    It is locked meanwhile: who shares the disk from another machine or container, where process numbers say
    nothing, sees by the lock whether it is still being made.
    """
    ending = f"{os.getpid()}-{_machine()}-{secrets.token_hex(4)}"
    partial = place.with_name(f".{place.name}{_UNFINISHED}{ending}")
    _active.add(partial)
    lock = None
    try:
        if folder:
            partial.mkdir()
        else:
            os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        lock = _lock(partial)
        yield partial
    finally:
        _remove(partial)
        if lock is not None:
            os.close(lock)
        _active.discard(partial)


@cache
def _machine() -> str:
    """Which process numbers are meant: those of this boot of this host, and of this container."""
    parts = [socket.gethostname()]
    for source in (Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")):
        with suppress(OSError):
            parts.append(os.readlink(source) if source.is_symlink() else source.read_text("utf-8"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def _lock(path: Path) -> int | None:
    """An open file that holds the lock on `path` until it is closed or the process ends; None without one.

    Raises:
        BlockingIOError: somebody else holds it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(opened)
        raise
    except OSError:  # a file system that knows no locks
        os.close(opened)
        return None
    return opened


def _share(folder: Path) -> None:
    """Gives every file the rights that the umask gives; some libraries write for the owner alone."""
    rights = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file() and not file.is_symlink() and file.stat().st_mode & 0o666 != rights:
            file.chmod(rights)


def _place(partial: Path, place: Path) -> None:
    """Renames where nothing is: a rename replaces an empty folder, but fails on one with something in it."""
    refuse_existing([place])
    try:
        partial.rename(place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            refuse_existing([place])
        raise


def _swap(partial: Path, place: Path, previous: Path) -> None:
    if place.exists():
        if _exchange(partial, place):
            return  # the earlier one now has the unfinished one's name, and is removed under it
        place.rename(previous)
    try:
        partial.rename(place)
    except OSError:
        if previous.exists():
            previous.rename(place)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Gives each of two folders the other's name in one step, so that at no moment there is none.

    False where the system (it is Linux's) or its file system cannot.
    """
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):
        return False
    names = (os.fsencode(one), os.fsencode(other))
    return bool(rename(_HERE, names[0], _HERE, names[1], _EXCHANGE) == 0)


def _restore(place: Path, previous: Path) -> None:
    if previous.exists():
        # A run was killed between its two renames (put the old one back) or after them (drop it).
        if place.exists():
            shutil.rmtree(previous)
        else:
            previous.rename(place)


def _sweep(place: Path) -> None:
    """Removes what killed runs left unfinished beside `place`."""
    prefix = f".{place.name}{_UNFINISHED}"
    for partial in place.parent.glob(f"{glob.escape(prefix)}*"):
        if partial not in _active and _is_abandoned(partial, partial.name.removeprefix(prefix)):
            _remove(partial)


def _is_abandoned(partial: Path, ending: str) -> bool:
    """Whether nobody makes it any more: by the process in its name if that is of here, else by its lock."""
    pid, *others = ending.split("-")
    if len(others) != 2 or others[0] == _machine():  # an earlier version named no machine
        return pid == str(os.getpid()) or not _is_running(pid)
    try:
        if time.time() - partial.stat().st_mtime < _SECONDS_TO_LOCK:
            return False
        lock = _lock(partial)
    except OSError:  # it is locked, or gone
        return False
    if lock is None:
        return False
    os.close(lock)
    return True


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
