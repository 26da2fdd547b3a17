"""The skeleton of a graph: honest ones pass, and what no encoder has is refused before a parser sees it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ringkas.errors import ArtifactError
from ringkas.runtimes.engines.onnx_check import check_graph

onnx = pytest.importorskip("onnx")
helper, kinds = onnx.helper, onnx.TensorProto


def graph(tensors: list[Any], nodes: list[Any] | None = None, **more: Any) -> Any:
    nodes = nodes or [helper.make_node("Identity", ["x"], ["y"])]
    value = helper.make_tensor_value_info
    inputs, outputs = [value("x", kinds.FLOAT, ["n"])], [value("y", kinds.FLOAT, ["n"])]
    return helper.make_model(helper.make_graph(nodes, "encoder", inputs, outputs, tensors), **more)


def tensor(**changes: Any) -> Any:
    made = onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "table")
    for name, value in changes.items():
        if name == "dims":
            made.dims[:] = value
        else:
            setattr(made, name, value)
    return made


def outside(location: str, **numbers: str) -> Any:
    made = tensor(data_location=kinds.EXTERNAL)
    made.ClearField("raw_data")
    for key, value in {"location": location, **numbers}.items():
        made.external_data.add(key=key, value=value)
    return made


@pytest.fixture
def check(tmp_path: Path) -> Callable[[Any], None]:
    folder = tmp_path / "onnx"
    folder.mkdir()
    (folder / "data").write_bytes(bytes(100))
    (tmp_path / "data").write_bytes(bytes(100))

    def run(model: Any) -> None:
        data = model if isinstance(model, bytes) else model.SerializeToString()
        (folder / "model.onnx").write_bytes(data)
        check_graph(folder / "model.onnx")

    return run


HONEST = {
    "plain": lambda: graph([tensor()]),
    "outside": lambda: graph([outside("data", offset="4", length="24")]),
    "outside, length not said": lambda: graph([outside("data")]),
    "four bits": lambda: graph([helper.make_tensor("q", kinds.INT4, [3], b"\x21\x03", raw=True)]),
    "numbers one by one": lambda: graph([helper.make_tensor("s", kinds.INT64, [2], [1, 2])]),
    "a constant": lambda: graph([], [helper.make_node("Constant", [], ["y"], value=tensor())]),
    "of Microsoft": lambda: graph(
        [], [helper.make_node("MatMulNBits", ["x"], ["y"], domain="com.microsoft")]
    ),
}
DISHONEST = {
    "above": (lambda: graph([outside("../data")]), "no file beside"),
    "absolute": (lambda: graph([outside("/etc/passwd")]), "no file beside"),
    "in memory": (lambda: graph([outside("*/_ORT_MEM_ADDR_/*")]), "no file beside"),
    "itself": (lambda: graph([outside(".")]), "no file beside"),
    "missing": (lambda: graph([outside("other")]), "missing"),
    "past the end": (lambda: graph([outside("data", offset="80")]), "past the end"),
    "huge offset": (lambda: graph([outside("data", offset=str(2**62))]), "past the end"),
    "negative offset": (lambda: graph([outside("data", offset="-8")]), "no place in a file"),
    "longer than its shape": (lambda: graph([outside("data", length="48")]), "past the end"),
    "too short": (lambda: graph([tensor(raw_data=b"1234")]), "bytes, not the"),
    "huge shape": (lambda: graph([tensor(dims=[2**62, 2])]), "claims the shape"),
    "negative shape": (lambda: graph([tensor(dims=[-1, 3])]), "claims the shape"),
    "strings": (lambda: graph([helper.make_tensor("s", kinds.STRING, [1], [b"a"])]), "the type 8"),
    "inside a node": (
        lambda: graph([], [helper.make_node("Constant", [], ["y"], value=outside("../data"))]),
        "no file beside",
    ),
    "a loop": (
        lambda: graph([], [helper.make_node("Loop", ["x"], ["y"], body=graph([]).graph)]),
        "holds a graph",
    ),
    "of others": (lambda: graph([], [helper.make_node("Run", ["x"], ["y"], domain="evil")]), "operators of"),
    "no graph": (lambda: onnx.ModelProto(ir_version=8), "0 graphs"),
    "nothing": (lambda: b"", "cannot mmap an empty file"),
    "no protobuf": (lambda: b"\xff" * 40, "without an end"),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_graph_passes(name: str, check: Callable[[Any], None]) -> None:
    check(HONEST[name]())


@pytest.mark.parametrize("name", DISHONEST)
def test_dishonest_graph_is_one_line(name: str, check: Callable[[Any], None]) -> None:
    make, reason = DISHONEST[name]
    with pytest.raises(ArtifactError, match=reason) as caught:
        check(make())
    assert "\n" not in str(caught.value)


def test_any_damage_is_one_line_or_passes(check: Callable[[Any], None]) -> None:
    whole, chance = graph([tensor(), outside("data")]).SerializeToString(), Random(1)
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        with suppress(ArtifactError):
            check(bytes(damaged[: chance.choice((len(damaged), chance.randrange(len(damaged))))]))
