"""Scheme files: what they change, and errors that name the file and the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringkas.errors import TargetError
from ringkas.family import Handling
from ringkas.quantize.for_onnx.scheme_file import read_scheme
from ringkas.quantize.for_onnx.schemes import SCHEMES


def written(folder: Path, fields: dict[str, Any]) -> Path:
    file = folder / "own.json"
    file.write_text(json.dumps(fields), "utf-8")
    return file


def test_what_is_not_stated_is_the_targets_own(tmp_path: Path) -> None:
    found = read_scheme(written(tmp_path, {"target": "onnx-int4", "damping": 0.5}))
    assert found == msgspec.structs.replace(SCHEMES["onnx-int4"], damping=0.5)


def test_toml_says_the_same(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(
        'target = "onnx-int8"\nfloating = ["encoder.layer.0.*"]\n'
        '[activations]\n"attention output" = "row"\n', "utf-8"
    )  # fmt: skip
    found = read_scheme(file)
    assert found.floating == ("encoder.layer.0.*",)
    assert found.activations == {"attention output": Handling.ROW}


def test_named_layers_take_the_place_of_the_budget(tmp_path: Path) -> None:
    found = read_scheme(written(tmp_path, {"target": "onnx-int4", "wide": ["*"]}))
    assert (found.wide, found.bits_per_weight) == (("*",), None)


def test_eight_bits_in_place_of_four_need_no_blocks(tmp_path: Path) -> None:
    found = read_scheme(written(tmp_path, {"target": "onnx-int4", "bits": 8}))
    assert (found.bits, found.block, found.table_bits) == (8, 0, 4)


def test_a_table_of_codes_needs_no_blocks(tmp_path: Path) -> None:
    found = read_scheme(written(tmp_path, {"target": "onnx-int3", "table_bits": 3}))
    assert (found.bits, found.block, found.table_bits, found.table_block) == (4, 64, 3, 0)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "does not say which target"),
        ({"target": ["onnx-int4"]}, "does not say which target"),
        ({"target": "onnx-fp16"}, "no ONNX scheme 'onnx-fp16'"),
        ({"target": "onnx-int4", "dampin": 0.5}, "unknown field `dampin`"),
        ({"target": "onnx-int4", "damping": "much"}, "Expected `float`, got `str` - at `damping`"),
        ({"target": "onnx-int4", "damping": 0}, "Expected `float` > 0.0 - at `damping`"),
        ({"target": "onnx-int4", "bits": 5}, "Invalid enum value 5 - at `bits`"),
        ({"target": "onnx-int4", "table_block": 48}, "Invalid enum value 48 - at `table_block`"),
        ({"target": "onnx-int4", "block": 8}, "`block` must be 16 or more"),
        ({"target": "onnx-int4", "wide": ["*"], "bits_per_weight": 5.0}, "both say which layers are widened"),
        ({"target": "onnx-int4", "floating": "all"}, "at `floating`"),
        ({"target": "onnx-int4", "covariance_width": 2048}, "`covariance_width` is for `bits` 8 only"),
        ({"target": "onnx-int8", "covariance_width": 0}, "Expected `int` >= 1 - at `covariance_width`"),
        ({"target": "onnx-int8", "wide": ["*"]}, "`wide` is for `bits` 4 only"),
        ({"target": "onnx-int8", "bits": 4, "block": 32}, "`target` must be onnx-int4"),
        ({"target": "onnx-int4", "table_bits": 2}, "`target` must be onnx-int3"),
        ({"target": "onnx-int3", "table_block": 32}, "`table_block` is for `table_bits` 4 only"),
        ({"target": "onnx-int8", "activations": {"attention": "row"}}, "these roles: attention input"),
        ({"target": "onnx-int8", "activations": {"attention input": "rows"}}, "at `activations[...]`"),
    ],
)  # fmt: skip
def test_an_error_names_the_file_and_the_field(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    with pytest.raises(TargetError) as raised:
        read_scheme(written(tmp_path, fields))
    assert "own.json" in str(raised.value)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("own.yaml", b"", "neither .toml nor .json"),
        ("own.json", b"{", "not valid JSON"),
        ("own.json", b"[]", "holds no fields"),
        ("own.toml", b"target = ", "not valid TOML"),
        ("own.toml", b"\xff", "not valid TOML"),
    ],
)
def test_an_unreadable_file_is_refused(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TargetError, match=said):
        read_scheme(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot read"):
        read_scheme(tmp_path / "absent.toml")


def test_a_pattern_that_means_no_layer_is_refused() -> None:
    scheme = SCHEMES["onnx-int8"]
    names = ["layer.0.query", "layer.0.key"]
    assert scheme.layers(("*.query",), names, "floating") == {"layer.0.query"}
    with pytest.raises(
        TargetError, match=r"`floating` names '\*\.value'.*They are named like layer\.0\.query"
    ):
        scheme.layers(("*.value",), names, "floating")
