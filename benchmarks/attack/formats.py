"""Damage that knows a format: safetensors, ONNX, GGUF, NumPy's archives, and the paths that they hold."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from attack.damage import mutated

# Names that lead out of a folder, or to what is no file.
PATHS = (
    "../outside", "../../../../etc/passwd", "/etc/passwd", "/dev/zero", "a/../../outside", "..\\outside",
    "C:\\outside", "", ".", "./", "a\0b", "x" * 5000, "link", "~", "$HOME", "%2e%2e/outside",
    "file:///etc/passwd", "//etc/passwd",
)  # fmt: skip
_POISON = (float("nan"), float("inf"), float("-inf"))
_HUGE = (-1, 0, 1, 2**31 - 1, 2**31, 2**40, 2**62)


def safetensors_header(data: bytes, chance: Random) -> bytes:
    """One value of the header's JSON changed, its length set to match."""
    (length,) = struct.unpack("<Q", data[:8])
    header = mutated(data[8 : 8 + length], chance)
    return struct.pack("<Q", len(header)) + header + data[8 + length :]


def safetensors_poison(data: bytearray, chance: Random) -> bytes:
    """NaN or an infinity as one value of a tensor, as all, or as a row."""
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    names = [name for name, entry in header.items() if name != "__metadata__" and entry["dtype"] == "F32"]
    start, end = header[chance.choice(names)]["data_offsets"]
    _poison(data, 8 + length + start, 8 + length + end, "<f4", chance)
    return bytes(data)


def gguf_poison(file: Path, chance: Random) -> bytes:
    """NaN or an infinity in a float tensor, or in the scales of a quantised one."""
    from ringkas.runtimes.engines.llama_header import TENSOR_TYPES, read_header

    tensors, data = read_header(file).tensors, bytearray(file.read_bytes())
    tensor = tensors[chance.choice(list(tensors))]
    if tensor.kind == "F32":
        _poison(data, tensor.offset, tensor.offset + tensor.size, "<f4", chance)
        return bytes(data)
    # A block's scale stands first in Q8_0, Q4_0 and their like, and in Q4_K and Q5_K.
    block = next(size for name, _, size in TENSOR_TYPES.values() if name == tensor.kind)
    blocks = range(tensor.offset, tensor.offset + tensor.size, block)
    value = np.array(chance.choice(_POISON), "<f2").tobytes()
    for at in chance.choice((blocks, [chance.choice(blocks)])):
        data[at : at + 2] = value
    return bytes(data)


def onnx_poison(file: Path, chance: Random) -> None:
    """NaN or an infinity in a float tensor of a graph, wherever its data lie; written in place."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    kinds = {onnx.TensorProto.FLOAT: "<f4", onnx.TensorProto.FLOAT16: "<f2"}
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type in kinds]
    tensor = chance.choice(floats)
    kind = kinds[tensor.data_type]
    if tensor.external_data:
        where = {entry.key: entry.value for entry in tensor.external_data}
        place = file.parent / where["location"]
        data = bytearray(place.read_bytes())
        start = int(where.get("offset", 0))
        _poison(data, start, start + int(where["length"]), kind, chance)
        replace(place, data)
        return
    raw = bytearray(tensor.raw_data)
    if raw:
        _poison(raw, 0, len(raw), kind, chance)
        tensor.raw_data = bytes(raw)
    replace(file, model.SerializeToString())


def onnx_structure(file: Path, chance: Random) -> None:  # noqa: C901 (one line a change)
    """One thing of a graph's structure changed that no honest writer would; written in place."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    graph = model.graph
    node, tensor = chance.choice(graph.node), chance.choice(graph.initializer)
    what = chance.randrange(11)
    if what == 0 and tensor.dims:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(_HUGE)
    elif what == 1:
        tensor.data_type = chance.choice((*range(24), 999))
    elif what == 2:
        node.op_type = chance.choice(("Loop", "If", "Scan", "Nonsense", chance.choice(graph.node).op_type))
    elif what == 3 and node.attribute:
        attribute = chance.choice(node.attribute)
        attribute.i = chance.choice(_HUGE)
        if attribute.ints:
            attribute.ints[0] = chance.choice(_HUGE)
    elif what == 4:
        graph.node.remove(node)
    elif what == 5 and node.input:
        node.input[chance.randrange(len(node.input))] = chance.choice(chance.choice(graph.node).output)
    elif what == 6:
        tensor.raw_data = tensor.raw_data[: len(tensor.raw_data) // 2]
    elif what == 7:
        model.opset_import[0].version = chance.choice((0, 1, 7, 99, 2**31 - 1))
    elif what == 8:
        model.ir_version = chance.choice((0, 1, 3, 99, 2**31 - 1))
    elif what == 9:
        values = np.array(chance.choices((0, -1, 2**31, 2**62), k=max(1, len(tensor.raw_data) // 8)))
        tensor.raw_data = values.astype("<i8").tobytes()[: len(tensor.raw_data)]
    else:
        graph.node.extend([node] * chance.choice((1, 1000)))
    replace(file, model.SerializeToString())


def onnx_path(file: Path, chance: Random) -> None:
    """A tensor's data said to lie where they do not, or are not; written in place."""
    import onnx

    model = onnx.load(str(file), load_external_data=False)
    tensor = chance.choice(model.graph.initializer)
    where = {entry.key: entry.value for entry in tensor.external_data}
    size = where.get("length", str(max(1, len(tensor.raw_data))))
    where = {
        "location": where.get("location", "model.onnx"),
        "offset": where.get("offset", "0"),
        "length": size,
    }
    if chance.random() < 0.7:
        where["location"] = chance.choice((*PATHS, "../tokenizer.json", "*/_ORT_MEM_ADDR_/*"))
    else:
        where[chance.choice(("offset", "length"))] = str(chance.choice((*_HUGE, 2**64, "nonsense")))
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    del tensor.external_data[:]
    for key, value in where.items():
        tensor.external_data.add(key=key, value=value)
    replace(file, model.SerializeToString())


def archive(data: bytes, chance: Random) -> bytes:
    """An .npz or .npy that claims far more than it is, holds a pickle, or unpacks to gigabytes."""
    if not data.startswith(b"PK"):
        return _array(chance)
    with zipfile.ZipFile(io.BytesIO(data)) as old:
        members = {name: old.read(name) for name in old.namelist()}
    victim = chance.choice(list(members))
    what = chance.randrange(5)
    if what == 0:
        members[victim] = _array(chance)
    elif what == 1:
        members[victim] = _npy("|u1", (3 << 30,)) + bytes(3 << 28)  # packs a thousand to one
    elif what == 2:
        del members[victim]
    elif what == 3:
        members["../" * 5 + "tmp/outside.npy"] = members.pop(victim)
    else:
        text = (
            mutated(members["header.npy"].partition(b"\n")[2], chance) if "header.npy" in members else b"{}"
        )
        members["header.npy"] = _npy("|u1", (len(text),)) + text
    new = io.BytesIO()
    with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as written:
        for name, content in members.items():
            written.writestr(name, content)
    return new.getvalue()


def _array(chance: Random) -> bytes:
    shape: Any = chance.choice(((10**12,), (2**62, 4), (-1,), (0,), (10**6, 10**6), ()))
    kind = chance.choice(("<i8", "|u1", "<f4", "|O", "<U100000", "|S1000000000", "V8"))
    tail = pickle.dumps([1, 2]) if kind == "|O" else chance.randbytes(64)
    return _npy(kind, shape) + tail


def _npy(kind: str, shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def _poison(data: bytearray, start: int, end: int, kind: str, chance: Random) -> None:
    values = np.frombuffer(data, dtype=kind, count=(end - start) // np.dtype(kind).itemsize, offset=start)
    first = chance.randrange(len(values))
    last = chance.choice((first + 1, first + 384, len(values)))
    values[first:last] = chance.choice(_POISON)


def replace(file: Path, data: bytes | bytearray) -> None:
    """A new file in the place of one that other folders share."""
    file.unlink(missing_ok=True)
    file.write_bytes(data)
