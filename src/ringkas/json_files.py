"""JSON files read into structs, so that a malformed one is named with what is wrong in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ringkas.errors import CheckpointError
from ringkas.files import LFS_POINTER, NOT_FETCHED, read_whole

_Read = TypeVar("_Read")
_REQUIRED: Any = object()


def read_json(file: Path, kind: type[_Read], absent: Any = _REQUIRED) -> _Read:
    """The JSON of a checkpoint's file as `kind`; `absent`, where that is given, when there is no such file.

    Raises:
        CheckpointError: it is missing, cannot be read, or is not of that kind.
    """
    try:
        data = read_whole(file)
    except FileNotFoundError:
        if absent is not _REQUIRED:
            found: _Read = absent
            return found
        raise CheckpointError(
            f"{file} is missing", fix="Name a sentence-transformers or transformers checkpoint folder"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read", why=error.strerror or str(error)) from None
    if data.startswith(LFS_POINTER):
        raise CheckpointError(f"{file} cannot be read", why=NOT_FETCHED, fix="Run: git lfs pull")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read", why=str(error)) from None


def convert(value: Any, kind: type[_Read], file: Path) -> _Read:
    """A value that came out of `file`, as `kind`.

    Raises:
        CheckpointError: it is not of that kind.
    """
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise CheckpointError(f"{file} cannot be used", why=str(error)) from None
