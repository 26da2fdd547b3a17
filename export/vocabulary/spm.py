"""A SentencePiece model file cut to some of its pieces, without the sentencepiece package.

The file is one Protocol Buffers message; field 1 is a piece (its field 1 the text, 2 the score, 3 the type,
absent for a normal piece). All other fields are kept as they are, byte for byte.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from ringkas.errors import CheckpointError

_PIECE, _TEXT, _TYPE = 1, 1, 3
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NORMAL = 1


def keep_pieces(model: bytes, kept: Collection[str]) -> bytes:
    """The model with the normal pieces in `kept` and all others (unknown, control, byte), in order."""
    output = bytearray()
    for field, start, body, end in _fields(model):
        if field != _PIECE or _stays(model[body:end], kept):
            output += model[start:end]
    return bytes(output)


def pieces(model: bytes) -> list[str]:
    """The texts of all pieces, in order."""
    return [_text_and_type(model[body:end])[0] for field, _, body, end in _fields(model) if field == _PIECE]


def _stays(piece: bytes, kept: Collection[str]) -> bool:
    text, kind = _text_and_type(piece)
    return kind != _NORMAL or text in kept


def _text_and_type(piece: bytes) -> tuple[str, int]:
    text, kind = "", _NORMAL
    for field, _, body, end in _fields(piece):
        if field == _TEXT:
            text = piece[body:end].decode("utf-8")
        elif field == _TYPE:
            kind = _varint(piece, body)[0]
    return text, kind


def _fields(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """(number, start, start of the content, end) of each field."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        wire = tag & 7
        body = at
        if wire == _VARINT:
            _, at = _varint(message, at)
        elif wire == _BYTES:
            length, body = _varint(message, at)
            at = body + length
        elif wire in (_FIXED64, _FIXED32):
            at += 8 if wire == _FIXED64 else 4
        else:
            raise CheckpointError("the SentencePiece model file is damaged", why=f"wire type {wire}")
        if at > len(message):
            raise CheckpointError("the SentencePiece model file is cut short")
        yield tag >> 3, start, body, at


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message):
            raise CheckpointError("the SentencePiece model file is cut short")
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
