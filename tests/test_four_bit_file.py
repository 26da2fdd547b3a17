"""The 4-bit file: a small one is written here and must come back as float32, value for value."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from ringkas.four_bit_file import read_header, write_float32

ROWS, HIDDEN, FEED_FORWARD = 6, 32, 64


def q4(values: npt.NDArray[np.int64], scale: float) -> tuple[bytes, npt.NDArray[np.float32]]:
    """Packs 4-bit integers (n, 32) byte by byte; returns what they stand for as well."""
    packed = b""
    for block in values:
        packed += struct.pack("<e", scale)
        packed += bytes(int(block[i]) | int(block[i + 16]) << 4 for i in range(16))
    return packed, ((values - 8) * np.float32(np.float16(scale))).astype(np.float32).reshape(-1)


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, dict[str, npt.NDArray[np.float32]]]:
    """A file of one layer, and what each tensor must become by BERT's name."""
    random = np.random.default_rng(5)
    expected: dict[str, npt.NDArray[np.float32]] = {}
    entries: list[tuple[str, int, bytes, int]] = []

    def add(name: str, bert: str, shape: tuple[int, ...], four_bit: bool) -> None:
        count = int(np.prod(shape))
        if four_bit:
            data, values = q4(random.integers(0, 16, (count // 32, 32)), float(random.uniform(0.01, 0.1)))
        else:
            values = random.standard_normal(count).astype(np.float32)
            data = values.tobytes()
        expected[bert] = values.reshape(shape)
        entries.append((name, int(four_bit), data, count))

    add("emb.word", "embeddings.word_embeddings.weight", (ROWS, HIDDEN), True)
    add("emb.pos", "embeddings.position_embeddings.weight", (4, HIDDEN), False)
    add("emb.ln.w", "embeddings.LayerNorm.weight", (HIDDEN,), False)
    layer = "encoder.layer.0."
    add("l0.q.w", layer + "attention.self.query.weight", (HIDDEN, HIDDEN), True)
    add("l0.q.b", layer + "attention.self.query.bias", (HIDDEN,), False)
    add("l0.aln.w", layer + "attention.output.LayerNorm.weight", (HIDDEN,), False)
    add("l0.fi.w", layer + "intermediate.dense.weight", (FEED_FORWARD, HIDDEN), True)
    add("l0.fo.w", layer + "output.dense.weight", (HIDDEN, FEED_FORWARD), True)
    add("l0.oln.b", layer + "output.LayerNorm.bias", (HIDDEN,), False)

    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, 1, 2, FEED_FORWARD, ROWS, 4, 2, 1e-12, 32)
    text = "▁héllo".encode()
    head += struct.pack("<5iQ", 2, 0, 2, 1, 3, len(text)) + struct.pack("<3I", 0, 3, len(text))
    head += struct.pack("<2f", -1.0, -2.0) + text + struct.pack("<iI", 1, 5) + b"\0" * 5
    start = len(head) + 4 + sum(2 + len(name) + 21 for name, *_ in entries)
    table, body = struct.pack("<i", len(entries)), b""
    for name, kind, data, count in entries:
        table += struct.pack("<H", len(name)) + name.encode()
        table += struct.pack("<BIQQ", kind, count, start + len(body), len(data))
        body += data
    file = tmp_path / "small.bin"
    file.write_bytes(head + table + body)
    return file, expected


def test_every_tensor_becomes_what_it_stands_for(
    small: tuple[Path, dict[str, npt.NDArray[np.float32]]], tmp_path: Path
) -> None:
    source, expected = small
    write_float32(source, tmp_path / "model.safetensors")
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_a_changed_nibble_changes_the_values(
    small: tuple[Path, dict[str, npt.NDArray[np.float32]]], tmp_path: Path
) -> None:
    source, expected = small
    data = bytearray(source.read_bytes())
    _, tensors = read_header(bytes(data))
    data[tensors[0].start + 2] ^= 1
    source.write_bytes(data)
    write_float32(source, tmp_path / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    different = load_file(tmp_path / "model.safetensors")[name] != expected[name]
    assert np.argwhere(different).tolist() == [[0, 0]]


def test_another_file_is_refused() -> None:
    with pytest.raises(ValueError, match="does not begin with E5S1"):
        read_header(b"GGUF" + bytes(60))
