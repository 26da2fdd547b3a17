"""Ways to damage the bytes of a file, and the values of a JSON document."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

Damage = Callable[[bytearray, Random], bytes]

_HUGE = (2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1)
_HEAD = 512  # where formats keep their lengths


def _bit(data: bytearray, chance: Random) -> bytes:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _run(data: bytearray, chance: Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    length = chance.choice((1, 8, 64, 4096, 65536))
    data[start : start + length] = chance.randbytes(min(length, len(data) - start))
    return bytes(data)


def _truncated(data: bytearray, chance: Random) -> bytes:
    return bytes(data[: chance.choice((0, 1, 8, chance.randrange(len(data) + 1), len(data) - 1))])


def _zeros(data: bytearray, chance: Random) -> bytes:
    start = chance.randrange(len(data) + 1)
    length = min(chance.choice((1, 64, 4096, 1 << 20, len(data))), len(data) - start)
    data[start : start + length] = bytes(length)
    return bytes(data)


def _longer(data: bytearray, chance: Random) -> bytes:
    return bytes(data) + chance.randbytes(chance.choice((1, 8, 4096)))


def _moved(data: bytearray, chance: Random) -> bytes:
    cut = chance.randrange(len(data) + 1)
    return bytes(data[cut:] + data[:cut])


def _length(data: bytearray, chance: Random) -> bytes:
    """A number in the file's head becomes one that no honest file has."""
    width = chance.choice((4, 8))
    place = chance.randrange(max(1, min(_HEAD, len(data)) - width))
    value = chance.choice(_HUGE) % 2 ** (8 * width)
    data[place : place + width] = value.to_bytes(width, chance.choice(("little", "little", "big")))
    return bytes(data)


BYTES: Mapping[str, Damage] = {
    "a bit": _bit,
    "a run of bytes": _run,
    "cut short": _truncated,
    "zeros": _zeros,
    "longer": _longer,
    "its parts moved": _moved,
    "a length in its head": _length,
}

_DEEP = "@deep@"
_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 2, 2**31, 2**53, 2**63, 10**12, 10**30, -(10**12), 0.5, 1e308,
    float("nan"), float("inf"), float("-inf"), "", "x", "x" * 200_000, "../../../etc/passwd", "/dev/zero",
    "a\0b", "\ud800", "\ufffe", [], {}, [[]], [None], {"": None}, _DEEP,
)  # fmt: skip


def mutated(data: bytes, chance: Random) -> bytes:
    """A JSON document with one value of it changed, taken away, or a key given twice.

    What is chosen is a place in its structure: a list of a thousand pieces counts as much as one number.
    """
    document = json.loads(data)
    holder, key = _place(document, chance)
    what = chance.random()
    if what < 0.2:
        if isinstance(holder, dict):
            del holder[key]
        else:
            holder.pop(key)
    else:
        holder[key] = _nearby(holder[key], chance)
    text = json.dumps(document)
    if what > 0.95 and text.startswith("{") and len(text) > 2:
        name, value = chance.choice(list(document)), chance.choice(_VALUES)
        text = f"{text[:-1]}, {json.dumps(name)}: {json.dumps(value)}}}"
    depth = chance.choice((200, 2_000, 100_000))
    return text.replace(f'"{_DEEP}"', "[" * depth + "]" * depth).encode("utf-8")


def _place(document: Any, chance: Random) -> tuple[Any, Any]:
    """A container somewhere in the document, and a key of it."""
    holder, key = document, _any_key(document, chance)
    while isinstance(holder[key], dict | list) and holder[key] and chance.random() > 0.25:
        holder = holder[key]
        key = _any_key(holder, chance)
    return holder, key


def _any_key(value: Any, chance: Random) -> Any:
    return chance.choice(list(value)) if isinstance(value, dict) else chance.randrange(len(value))


def _nearby(value: Any, chance: Random) -> Any:
    """Another value: of the same kind about as often as of another."""
    if isinstance(value, bool) or chance.random() < 0.5:
        return not value if isinstance(value, bool) else chance.choice(_VALUES)
    if isinstance(value, int):
        return chance.choice((value + 1, value - 1, -value, value * 2, value << 20, value << 40, 0))
    if isinstance(value, str):
        return chance.choice((value + "x", value[:-1], value.upper(), value * 2))
    if isinstance(value, list):
        return chance.choice((value[:-1], value + value, value[::-1], value[:1]))
    return chance.choice(_VALUES)
