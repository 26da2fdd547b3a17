"""Triton's folders: `config.pbtxt` is parsed by Triton's own schema, and names what is really there."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ringkas import open_artifact
from ringkas.export.to_tensorrt import triton
from ringkas.runtimes.engines.tensorrt_profiles import Profile, Shape


@pytest.fixture(scope="module")
def schema() -> Any:
    """`model_config.proto` compiled, as the package tritonclient carries it, without the rest of it."""
    pytest.importorskip("google.protobuf")
    found = importlib.util.find_spec("tritonclient")
    if found is None or not found.submodule_search_locations:
        pytest.skip("no tritonclient: make install-all")
    file = Path(found.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("triton_model_config", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse(schema: Any, text: str) -> Any:
    from google.protobuf import text_format

    return text_format.Parse(text, schema.ModelConfig())


def test_plan_repository_is_what_triton_expects(schema: Any, tensorrt_artifacts: Path) -> None:
    artifact = open_artifact(tensorrt_artifacts / "tensorrt-rtx-fp16")
    model = artifact.path / "triton" / "all-MiniLM-L6-v2"
    config = parse(schema, (model / "config.pbtxt").read_text(encoding="utf-8"))
    assert config.name == model.name
    assert config.platform == "tensorrt_plan"
    assert config.max_batch_size == 256
    assert [(one.name, list(one.dims)) for one in config.input] == [
        ("input_ids", [-1]),
        ("attention_mask", [-1]),
    ]
    assert {schema.DataType.Name(one.data_type) for one in config.input} == {"TYPE_INT32"}
    (output,) = config.output
    assert (output.name, list(output.dims)) == ("sentence_embedding", [384])
    assert schema.DataType.Name(output.data_type) == "TYPE_FP32"
    assert config.HasField("dynamic_batching")
    assert list(config.instance_group[0].profile) == ["1"]
    files = artifact.manifest.files
    assert files[f"triton/{model.name}/1/model.plan"] == files["model.plan"]


def test_schema_refuses_what_it_does_not_know(schema: Any, tensorrt_artifacts: Path) -> None:
    """The sabotaged twin: a field misspelt, a type that does not exist."""
    from google.protobuf.text_format import ParseError

    file = tensorrt_artifacts / "tensorrt-rtx-fp16" / "triton" / "all-MiniLM-L6-v2" / "config.pbtxt"
    text = file.read_text(encoding="utf-8")
    for old, new in (("max_batch_size", "maximum_batch_size"), ("TYPE_INT32", "TYPE_INTEGER")):
        with pytest.raises(ParseError):
            parse(schema, text.replace(old, new))


@pytest.mark.parametrize(("precision", "expected"), [("fp16", True), ("int8", True), ("fp8", False)])
def test_onnx_variant_is_there_where_onnx_runtime_can_run_it(
    schema: Any, tensorrt_artifacts: Path, precision: str, expected: bool
) -> None:
    folder = tensorrt_artifacts / f"tensorrt-rtx-{precision}"
    model = folder / "triton-onnx" / "all-MiniLM-L6-v2"
    assert model.is_dir() == expected
    if expected:
        config = parse(schema, (model / "config.pbtxt").read_text(encoding="utf-8"))
        assert config.platform == "onnxruntime_onnx"
        import onnxruntime

        session = onnxruntime.InferenceSession(model / "1" / "model.onnx", providers=["CPUExecutionProvider"])
        assert {one.name: one.type for one in session.get_inputs()} == {
            one.name: "tensor(int32)" for one in config.input
        }
        assert [one.name for one in session.get_outputs()] == [one.name for one in config.output]


def test_the_server_uses_the_profile_with_the_largest_batch(tensorrt_artifacts: Path, tmp_path: Path) -> None:
    manifest = open_artifact(tensorrt_artifacts / "tensorrt-rtx-fp16").manifest
    (tmp_path / "model.plan").write_bytes(b"plan")
    profiles = [Profile(Shape(n, 64), Shape(1, 16)) for n in (8, 64, 1)]
    triton.write_plan_repository(tmp_path, manifest, profiles)
    text = (tmp_path / "triton" / "all-MiniLM-L6-v2" / "config.pbtxt").read_text(encoding="utf-8")
    assert "max_batch_size: 64" in text
    assert 'profile: [ "1" ]' in text
    # One file with two names, not two.
    served = tmp_path / "triton" / "all-MiniLM-L6-v2" / "1" / "model.plan"
    assert os.path.samefile(tmp_path / "model.plan", served)


def test_names_are_of_letters_that_a_repository_allows(tensorrt_artifacts: Path) -> None:
    manifest = open_artifact(tensorrt_artifacts / "tensorrt-rtx-fp16").manifest
    for name, expected in (
        ("intfloat/e5 small", "intfloat-e5-small"),
        ("../모델", "model"),
        ("a.b_c", "a.b_c"),
    ):
        assert triton.model_name(msgspec.structs.replace(manifest, name=name)) == expected
