"""Variants side by side: laid once, verified where they lie, loaded by name only, refused when altered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from click.testing import CliRunner, Result

import ringkas
from ringkas import build_all, load, open_artifact, open_checkpoint, verify
from ringkas.cli import cli
from ringkas.errors import ArtifactError, TargetError
from ringkas.export.build import BuildOptions
from ringkas.export.bundle import Bundled, bundle
from ringkas.export.push import plan_upload
from ringkas.export.to_onnx import graph

TARGETS = ["onnx-fp16", "onnx-int8", "pytorch-fp32"]
TEXTS = ["a text", "", "하나 둘 셋", "a long text " * 40]


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint: Callable[..., Path]) -> Path:
    return small_checkpoint(width=64, max_length=64, prompts={"query": "query: ", "passage": "passage: "})


@pytest.fixture(scope="module")
def dist(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of each target, the token table of the graphs beside them."""
    out = tmp_path_factory.mktemp("apart") / "dist"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "MAPPED_FROM", 4096)
        build_all(open_checkpoint(checkpoint), TARGETS, out, BuildOptions(witness=False))
    return out


@pytest.fixture(scope="module")
def bundled(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Bundled]:
    return bundle([dist / target for target in TARGETS], tmp_path_factory.mktemp("together") / "model")


@pytest.fixture
def folder(bundled: list[Bundled], tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(bundled[0].artifact.path, tmp_path / "model"))


def run(*words: Any) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_each_file_is_there_once_under_its_readers_name(bundled: list[Bundled], dist: Path) -> None:
    folder = bundled[0].artifact.path
    assert {file.name for file in (folder / "onnx").iterdir()} == {
        "model_fp16.onnx", "model_fp16.onnx_data", "model_quantized.onnx", "model_quantized.onnx_data",
    }  # fmt: skip
    assert (folder / "model.safetensors").is_file()
    apart = sum(open_artifact(dist / target).size for target in TARGETS)
    together = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert together < apart
    told = json.loads((folder / "config.json").read_text("utf-8"))["transformers.js_config"]
    assert told["dtype"] == "q8"
    assert told["use_external_data_format"] == {"model_quantized.onnx": 1, "model_fp16.onnx": 1}
    for name in ("model_fp16.onnx", "model_quantized.onnx"):
        onnx.checker.check_model(str(folder / "onnx" / name))


def test_each_variant_is_verified_and_gives_its_artifact_s_vectors(
    bundled: list[Bundled], dist: Path
) -> None:
    assert [one.artifact.variant for one in bundled] == TARGETS
    for one in bundled:
        assert one.report.passed
        recorded = one.artifact.parity()
        assert recorded is not None
        assert recorded.cosine_min == one.report.cosine_min
        with (
            load(one.artifact.path, variant=one.artifact.variant) as here,
            load(dist / one.report.target) as there,
        ):
            np.testing.assert_array_equal(here.encode(TEXTS), there.encode(TEXTS))


def test_sentence_transformers_loads_it(bundled: list[Bundled]) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = bundled[0].artifact.path
    library = sentence_transformers.SentenceTransformer(str(folder), device="cpu")
    with load(folder, variant="pytorch-fp32") as encoder:
        np.testing.assert_allclose(library.encode_document(TEXTS), encoder.encode_document(TEXTS), atol=1e-5)


def test_nobody_guesses_a_variant(folder: Path) -> None:
    for call in (load, verify, open_artifact):
        with pytest.raises(ArtifactError, match=r"bundle of 3 variants.*--variant.*onnx-fp16, onnx-int8"):
            call(folder)
        with pytest.raises(ArtifactError, match="has no variant 'onnx-int4'"):
            call(folder, variant="onnx-int4")


def test_a_bundle_of_one_needs_no_name(dist: Path, tmp_path: Path) -> None:
    bundle([dist / "onnx-int8"], tmp_path / "one")
    with load(tmp_path / "one") as encoder:
        assert encoder.encode("a text").shape == (64,)


def test_an_artifact_is_not_another_variant(dist: Path) -> None:
    with load(dist / "onnx-int8", variant="onnx-int8"):
        pass
    with pytest.raises(ArtifactError, match="holds onnx-int8, not 'onnx-fp16'"):
        load(dist / "onnx-int8", variant="onnx-fp16")


@pytest.mark.parametrize("damaged", ["onnx/model_quantized.onnx", "tokenizer.json", "ringkas.json"])
def test_damage_is_found(folder: Path, damaged: str) -> None:
    data = bytearray((folder / damaged).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / damaged).write_bytes(data)
    with pytest.raises(ArtifactError):
        load(folder, variant="onnx-int8")


def test_damage_to_one_variant_leaves_the_others(folder: Path) -> None:
    (folder / "onnx" / "model_quantized.onnx").unlink()
    with load(folder, variant="onnx-fp16") as encoder:
        assert encoder.encode("a text").shape == (64,)


def test_verify_records_beside_its_variant(folder: Path) -> None:
    (folder / "parity.onnx-int8.json").unlink()
    done = run("verify", folder, "--variant", "onnx-int8", "--json")
    assert done.exit_code == 0
    assert open_artifact(folder, "onnx-int8").parity() is not None


def test_what_failed_is_not_loaded(folder: Path) -> None:
    file = folder / "parity.onnx-int8.json"
    report = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(report | {"passed": False, "failures": ["by hand"]}), "utf-8")
    with pytest.raises(ArtifactError, match="by hand"):
        load(folder, variant="onnx-int8")
    load(folder, variant="onnx-fp16").close()
    with pytest.raises(ArtifactError, match="parity of onnx-int8 fell short"):
        plan_upload(folder, "some/model")


def test_other_models_are_refused(dist: Path, small_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    other = ringkas.build(small_checkpoint(width=64, max_length=32), "onnx-fp32", tmp_path, witness=False)
    with pytest.raises(ArtifactError, match="are not of one model"):
        bundle([dist / "onnx-int8", other], tmp_path / "out")
    with pytest.raises(ArtifactError, match="are both onnx-int8"):
        bundle([dist / "onnx-int8", dist / "onnx-int8"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_its_own_is_another_model(dist: Path, tmp_path: Path) -> None:
    from ringkas.artifact import seal

    other = Path(shutil.copytree(dist / "onnx-fp16", tmp_path / "other"))
    (other / "tokenizer.json").write_text((other / "tokenizer.json").read_text("utf-8") + " ", "utf-8")
    seal(other, open_artifact_unchecked(other))
    with pytest.raises(ArtifactError, match=r"their tokenizer\.json differ"):
        bundle([dist / "onnx-int8", other], tmp_path / "out")


def open_artifact_unchecked(path: Path) -> Any:
    import msgspec

    from ringkas.artifact import Manifest

    return msgspec.json.decode((path / "ringkas.json").read_bytes(), type=Manifest)


def test_the_card_is_a_hub_s_and_has_the_tables(bundled: list[Bundled]) -> None:
    card = (bundled[0].artifact.path / "README.md").read_text("utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert set(TARGETS) <= set(front["tags"])
    for one in bundled:
        assert f"| {one.artifact.variant} | `{one.artifact.manifest.model_file}` |" in card
        assert f"{one.report.cosine_min:.4f}" in card
    assert "## Retrieval by language" in card
    assert 'dtype: "q8"` is `onnx/model_quantized.onnx`' in card
    assert 'query_encode_kwargs={"prompt_name": "query"}' in card


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def test_a_dry_run_says_what_would_be_sent(dist: Path, tmp_path: Path, offline: None) -> None:
    out = tmp_path / "model"
    arguments = ["bundle", dist / "onnx-int8", dist / "onnx-fp16", "--out", out]
    done = run(*arguments, "--push", "some/model", "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    upload = json.loads(done.stdout)["upload"]
    assert upload["repository"] == "some/model"
    sent = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert set(upload["files"]) == sent


def test_what_cannot_be_pushed_is_refused(folder: Path) -> None:
    for name in ("model", "some/model/more", "-/x", "so me/model"):
        with pytest.raises(TargetError, match="names no repository"):
            plan_upload(folder, name)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError):
        plan_upload(folder, "some/model")


def test_dry_run_goes_with_push(dist: Path, tmp_path: Path) -> None:
    done = run("bundle", dist / "onnx-int8", "--out", tmp_path / "model", "--dry-run")
    assert done.exit_code == 2
    assert "--dry-run goes with --push" in done.output


def test_a_plan_has_a_folder_of_its_own(dist: Path, tmp_path: Path) -> None:
    import msgspec

    from ringkas.artifact import Artifact

    opened = open_artifact(dist / "onnx-int8")
    plan = Artifact(opened.path, msgspec.structs.replace(opened.manifest, target="tensorrt-fp16"))
    with pytest.raises(ArtifactError, match="cannot lie in a bundle"):
        bundle([plan], tmp_path / "out")


def test_a_gguf_lies_beside_the_graphs(checkpoint: Path, dist: Path, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    build_all(open_checkpoint(checkpoint), ["gguf-f16"], tmp_path / "dist", BuildOptions(witness=False))
    made: Sequence[Bundled] = bundle([dist / "onnx-int8", tmp_path / "dist" / "gguf-f16"], tmp_path / "out")
    assert all(one.report.passed for one in made)
    assert len(list((tmp_path / "out").glob("*.gguf"))) == 1
    assert "llama-server -m " in (tmp_path / "out" / "README.md").read_text("utf-8")
