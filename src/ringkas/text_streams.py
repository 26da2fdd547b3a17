"""A file or a pipe of text as a stream: decompressed, its encoding known, what is no text refused by name."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ringkas.errors import TextError
from ringkas.extras import require
from ringkas.files import LFS_POINTER, expand

if TYPE_CHECKING:
    from typing_extensions import Buffer

STANDARD_INPUT = "the standard input"

_HEAD = 512  # bytes that tell what a source is; a pipe is waited on for no more than _ENOUGH
_ENOUGH = 64
_BUFFER = 1 << 16
_ZSTD_INPUT = 1024  # a kilobyte may hold 32 megabytes
_RECODE = "Convert it first, for example: iconv -f WINDOWS-1252 -t UTF-8"


@dataclass(frozen=True)
class Source:
    """An opened source: `stream` gives its bytes, decompressed and without a byte order mark.

    `name` is what errors call it, `endings` those of its name in lower case without its compression's,
    `head` the first bytes of `stream`, `encoding` what its mark says (UTF-8 without one). `path` is set
    where the stream is the file's own bytes, for a format that has to seek.
    """

    name: str
    stream: BinaryIO
    head: bytes
    endings: tuple[str, ...] = ()
    encoding: str = "utf-8"
    path: Path | None = None


@contextmanager
def open_source(place: Path | BinaryIO, name: str = "") -> Iterator[Source]:
    """Opens a file, or takes a stream, decompresses it, and finds its encoding.

    Raises:
        TextError: it cannot be opened, or holds no texts.
    """
    path = expand(place) if isinstance(place, Path) else None
    name = name or (str(path) if path else STANDARD_INPUT)
    with ExitStack() as stack:
        with reading(name):
            stream = place if not isinstance(place, Path) else stack.enter_context(expand(place).open("rb"))
            source = _prepare(stream, name, path, stack)
        yield source


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Every way in which reading fails, as one line about `name`."""
    try:
        yield
    except UnicodeDecodeError as error:
        encoding = error.encoding.upper().replace("_", "-")
        raise TextError(f"{name} is not {encoding}", why=error.reason, fix=_RECODE) from None
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise TextError(f"cannot read {name}", why=reason or str(error)) from None


def lines(source: Source) -> Iterator[str]:
    """Lines without their ends. Only a line feed parts them: U+2028, U+0085 and their like are text."""
    if source.encoding != "utf-8":
        for line in io.TextIOWrapper(source.stream, source.encoding, newline="\n"):
            yield _without_end(line)
        return
    offset = 0
    for data in source.stream:
        try:
            yield _without_end(data.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise TextError(
                f"{source.name} is not UTF-8",
                why=f"byte 0x{data[error.start]:02x} at offset {offset + error.start}",
                fix=_RECODE,
            ) from None
        offset += len(data)


def _without_end(line: str) -> str:
    return line[:-1].removesuffix("\r") if line.endswith("\n") else line


def _prepare(stream: BinaryIO, name: str, path: Path | None, stack: ExitStack) -> Source:
    head = _read_head(stream)
    _refuse_pointer(head, name)
    endings = tuple(ending.lower() for ending in path.suffixes) if path else ()
    stated = next((one for one in _COMPRESSIONS if endings[-1:] == (one.ending,)), None)
    found = next((one for one in _COMPRESSIONS if head.startswith(one.magic)), None)
    if stated not in (None, found):
        raise TextError(
            f"cannot read {name}",
            why=f"it ends in {endings[-1]}, but is not compressed that way",
            fix="Fetch it again, or rename it for what it is",
        )
    whole: BinaryIO = io.BufferedReader(_Rejoined(head, stream), _BUFFER)
    if found is not None:
        endings = endings[:-1] if stated else endings
        stream = stack.enter_context(found.open(whole))
        head = _read_head(stream)
        whole = io.BufferedReader(_Rejoined(head, stream), _BUFFER)
    _refuse_what_is_no_text(head, name)
    mark = next((mark for mark in _MARKS if head.startswith(mark)), b"")
    whole.read(len(mark))
    uncompressed = path if found is None else None
    return Source(name, whole, head[len(mark) :], endings, _MARKS.get(mark, "utf-8"), uncompressed)


def _read_head(stream: BinaryIO) -> bytes:
    head = b""
    # A pipe may give a few bytes at a time.
    while len(head) < _ENOUGH and (more := stream.read1(_HEAD)):  # type: ignore[attr-defined]
        head += more
    return head


def _refuse_pointer(head: bytes, name: str) -> None:
    if head.startswith(LFS_POINTER):
        raise TextError(
            f"{name} is a Git-LFS pointer",
            why="the file that it names was not fetched",
            fix="Fetch it: git lfs pull",
        )


def _refuse_what_is_no_text(head: bytes, name: str) -> None:
    _refuse_pointer(head, name)
    for offset, magic, what in _NO_TEXTS:
        if head.startswith(magic, offset):
            raise TextError(f"{name} is {what}", fix="Unpack it, or write it as plain text or JSON lines")
    if head.startswith(tuple(_MARKS)):
        return
    # Latin letters in UTF-16 are also UTF-8, with a zero character between any two.
    for start, encoding in ((0, "UTF-16BE"), (1, "UTF-16LE")):
        high, low = head[start::2], head[1 - start :: 2]
        if len(head) >= 4 and 2 * high.count(0) >= len(high) and not low.count(0):
            raise TextError(
                f"{name} is {encoding} without a byte order mark",
                fix=f"Convert it first: iconv -f {encoding} -t UTF-8",
            )


class _Rejoined(io.RawIOBase):
    """A stream with what was read of it put back in front."""

    def __init__(self, head: bytes, stream: BinaryIO) -> None:
        self._head, self._stream = head, stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        data, self._head = self._head, b""
        if not data:
            data = self._stream.read1(len(view))  # type: ignore[attr-defined]
        elif len(data) > len(view):
            data, self._head = data[: len(view)], data[len(view) :]
        view[: len(data)] = data
        return len(data)


class _Zstandard(io.RawIOBase):
    """The content of zstd frames, one after the other. The package's own reader takes a cut one for whole."""

    def __init__(self, stream: BinaryIO) -> None:
        require("bulk", "zstandard")
        import zstandard

        self._stream, self._new, self._error = stream, zstandard.ZstdDecompressor, zstandard.ZstdError
        self._frame = self._new().decompressobj()
        self._waiting, self._begun = memoryview(b""), False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        while not self._waiting:
            data = self._stream.read(_ZSTD_INPUT)
            if not data:
                if self._begun and not self._frame.eof:
                    raise EOFError("the compressed file ended before its end")
                return 0
            self._waiting = memoryview(b"".join(self._decompressed(data)))
        ready, self._waiting = self._waiting[: len(view)], self._waiting[len(view) :]
        view[: len(ready)] = ready
        return len(ready)

    def _decompressed(self, data: bytes) -> Iterator[bytes]:
        self._begun = True
        try:
            while data:
                if self._frame.eof:
                    self._frame = self._new().decompressobj()
                yield self._frame.decompress(data)
                data = self._frame.unused_data if self._frame.eof else b""
        except self._error as error:
            raise OSError(str(error)) from None


def _open_gzip(stream: BinaryIO) -> BinaryIO:
    return gzip.GzipFile(fileobj=stream, mode="rb")  # type: ignore[return-value]


def _open_zstandard(stream: BinaryIO) -> BinaryIO:
    return io.BufferedReader(_Zstandard(stream), _BUFFER)


@dataclass(frozen=True)
class _Compression:
    ending: str
    magic: bytes
    open: Callable[[BinaryIO], BinaryIO]


_COMPRESSIONS = (
    _Compression(".gz", b"\x1f\x8b", _open_gzip),
    _Compression(".zst", b"\x28\xb5\x2f\xfd", _open_zstandard),
)

# UTF-32's mark begins as UTF-16's does, so it comes first.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# Offset, bytes there, and what that is: what would else be read as one line of rubbish.
_NO_TEXTS = (
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"BZh", "compressed with bzip2"),
    (0, b"\xfd7zXZ\x00", "compressed with xz"),
    (0, b"%PDF-", "a PDF document"),
    (257, b"ustar", "a tar archive"),
)
