"""NumPy's .npz and .npy files, read so that one which lies costs neither memory nor a traceback.

`numpy.load` believes what a file says of itself: it makes room for as many values as are claimed, unpacks
whatever is packed, and raises a dozen kinds of error. Here what is claimed is compared with what is there
first, nothing over a bound is unpacked, and there is one error.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ringkas.files import read_whole

# Of an archive, unpacked; a map of ids and a probe have a few megabytes.
MOST_BYTES = 1 << 30
_PART = 1 << 20

Array = npt.NDArray[Any]


class ArraysError(ValueError):
    """A file of arrays is missing, damaged, or claims what it does not hold."""


def read_arrays(file: Path) -> Mapping[str, Array]:
    """The arrays of an .npz file by name.

    Raises:
        ArraysError: it is not one, is damaged, holds objects, or is over `MOST_BYTES`.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(read_whole(file, MOST_BYTES))) as archive:
            members = archive.infolist()
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise ArraysError(f"it unpacks to more than {MOST_BYTES >> 20} MiB")
            found = {}
            for member in members:
                with archive.open(member) as stream:
                    found[member.filename.removesuffix(".npy")] = _array(stream, member.file_size)
            return found
    except ArraysError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's header have some ten kinds between them
        raise ArraysError(_why(error)) from None


def read_array(file: Path) -> Array:
    """The array of an .npy file; raises as `read_arrays` does."""
    try:
        data = read_whole(file, MOST_BYTES)
        return _array(io.BytesIO(data), len(data))
    except ArraysError:
        raise
    except Exception as error:
        raise ArraysError(_why(error)) from None


def _array(stream: IO[bytes], length: int) -> Array:
    """The array of a stream of `length` bytes; of its values nothing is unpacked before its claim is true."""
    version = np.lib.format.read_magic(stream)
    header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in header:
        raise ArraysError(f"it has version {version} of NumPy's format")
    shape, by_columns, dtype = header[version](stream)
    if dtype.hasobject:
        raise ArraysError("it holds Python objects, which are never loaded")
    count = 1
    for size in shape:
        count *= size
    here = length - stream.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize != here:
        raise ArraysError(f"it claims the shape {shape} of {dtype}, but has {here} bytes")
    data = np.empty(here, np.uint8)  # filled in place: an unpacked copy beside it would double the memory
    for start in range(0, here, _PART):
        wanted = min(_PART, here - start)
        part = stream.read(wanted)
        if len(part) != wanted:
            raise ArraysError(f"it ends after {start + len(part)} of {here} bytes")
        data[start : start + wanted] = np.frombuffer(part, np.uint8)
    values = data.view(dtype) if count else np.empty(0, dtype)
    return values.reshape(shape, order="F" if by_columns else "C")


def _why(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0]
