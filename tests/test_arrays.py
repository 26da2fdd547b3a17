"""Arrays: what NumPy writes is read; what lies, unpacks to gigabytes or holds objects is one error."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from ringkas import arrays
from ringkas.arrays import ArraysError, read_array, read_arrays


@pytest.mark.parametrize(
    "value",
    [
        np.arange(12, dtype=np.int32).reshape(3, 4),
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.float16(1.5) * np.ones(3, np.float16),
        np.zeros((0, 4), np.float32),
        np.array(7),
        np.array(["a", "bc"]),
    ],
    ids=lambda value: f"{value.dtype}{value.shape}",
)
@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_what_numpy_writes(value: np.ndarray, write: object, tmp_path: Path) -> None:
    write(tmp_path / "a.npz", one=value, two=value)  # type: ignore[operator]
    np.save(tmp_path / "a.npy", value)
    for found in (*read_arrays(tmp_path / "a.npz").values(), read_array(tmp_path / "a.npy")):
        np.testing.assert_array_equal(found, value)
        assert found.dtype == value.dtype
    assert set(read_arrays(tmp_path / "a.npz")) == {"one", "two"}


def npy(kind: str, shape: str, body: bytes = b"\0" * 64) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


LIES = {
    "more than there is": npy("<i8", "(1000000000000,)"),
    "more than there can be": npy("<i8", "(4611686018427387904, 4)"),
    "less than nothing": npy("<i8", "(-1,)"),
    "less than there is": npy("<i8", "(2,)"),
    "objects": npy("|O", "(1,)"),
    "a huge kind": npy("<U1000000000", "(1,)"),
    "no shape": npy("<i8", "None"),
    "code": npy("<i8", "__import__('os').getpid()"),
    "deep": npy("<i8", "(" * 500 + ")" * 500),
    "nothing": b"",
    "no array": b"not an array",
    "cut short": npy("<i8", "(8,)")[:40],
}


@pytest.mark.parametrize("lie", LIES)
def test_lies_are_one_error(lie: str, tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(LIES[lie])
    with pytest.raises(ArraysError) as caught:
        read_array(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("one.npy", LIES[lie])
    with pytest.raises(ArraysError):
        read_arrays(tmp_path / "a.npz")


def test_what_unpacks_to_more_than_allowed_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", one=np.zeros(1 << 20, np.uint8))
    assert read_arrays(tmp_path / "a.npz")["one"].size == 1 << 20
    monkeypatch.setattr(arrays, "MOST_BYTES", 1 << 19)
    with pytest.raises(ArraysError, match="unpacks to more"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("shape", "most"),
    [("(67108864,)", 1.2), ("(201326592,)", 0.1)],
    ids=["what it claims", "less than it claims"],
)
def test_memory_is_that_of_the_values_and_of_nothing_else(shape: str, most: float, tmp_path: Path) -> None:
    values = 64 << 20
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.npy", npy("|u1", shape, bytes(values)))

    def peak(read: Callable[[], object]) -> float:
        tracemalloc.start()
        with suppress(ArraysError, ValueError):
            read()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found / values

    def unpacked_whole() -> object:
        with zipfile.ZipFile(tmp_path / "a.npz") as archive:
            return arrays._array(io.BytesIO(archive.read("one.npy")), 1)

    assert peak(lambda: read_arrays(tmp_path / "a.npz")) < most
    assert peak(unpacked_whole) > 1.9  # the twin: everything is unpacked before it is looked at


def test_every_damaged_byte_is_an_error_or_harmless(tmp_path: Path) -> None:
    packed = io.BytesIO()
    np.savez_compressed(packed, one=np.arange(50), two=np.ones(3))
    whole = packed.getvalue()
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        (tmp_path / "a.npz").write_bytes(damaged)
        with suppress(ArraysError):
            read_arrays(tmp_path / "a.npz")
