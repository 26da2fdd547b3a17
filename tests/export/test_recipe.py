"""An artifact is made again, byte for byte, by the command that its manifest tells."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ringkas import build_all, open_checkpoint
from ringkas.artifact import Artifact, Manifest, Source
from ringkas.cli import cli
from ringkas.export.build import BuildOptions
from ringkas.export.recipe import recipe_of
from ringkas.quantize.for_onnx.scheme_file import read_scheme
from ringkas.spec import EncodingSpec


def contents(folder: Path) -> dict[str, bytes]:
    """Every file; of the reports what they judge, for they say by which versions too."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != "parity.json"
    }


def run(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    name, *arguments = shlex.split(command)
    assert name == "ringkas"
    done = CliRunner().invoke(cli, [*arguments, "--no-witness"])
    assert done.exit_code in (0, 1), done.output  # a random model may fall short, twice alike


@pytest.mark.parametrize("scheme", [None, {"target": "onnx-int4", "wide": ["*dense"], "smoothing": 0.25}])
@pytest.mark.parametrize("target", ["pytorch-fp32", "onnx-int4"])
def test_made_again_byte_for_byte(
    small_checkpoint: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
    scheme: Mapping[str, Any] | None,
) -> None:
    if scheme is not None and target != scheme["target"]:
        pytest.skip("a scheme is for its own target")
    folder = small_checkpoint(64, max_length=32)
    (folder / "README.md").write_text("---\nlanguage: en\n---\n", "utf-8")  # a short probe
    options = BuildOptions(witness=False)
    if scheme is not None:
        (tmp_path / "scheme.json").write_text(json.dumps(scheme), "utf-8")
        options = BuildOptions(witness=False, scheme=read_scheme(tmp_path / "scheme.json"))
    built = build_all(open_checkpoint(folder), [target], tmp_path, options)[0].artifact
    recipe = recipe_of(built)
    assert any("was a folder" in note for note in recipe.notes)
    assert ("--scheme" in recipe.arguments) == (scheme is not None)
    run(recipe.command, folder.parent, monkeypatch)
    assert contents(folder.parent / "again" / target) == contents(built.path)


def artifact(**fields: Any) -> Artifact:
    spec = EncodingSpec("bert", 512, 384)
    given = {
        "target": "onnx-fp32",
        "engine": "onnxruntime",
        "precision": "fp32",
        "model_file": "onnx/model.onnx",
    }
    manifest = Manifest(name="m", source=Source("org/name", "c0ffee"), encoding=spec, **(given | fields))
    return Artifact(Path("dist/a b"), manifest)


def test_hub_id_and_revision() -> None:
    recipe = recipe_of(artifact())
    assert recipe.command == "ringkas build org/name --revision c0ffee --target onnx-fp32 --out again"
    assert recipe.notes == ()


def test_cut_vocabulary_with_own_text() -> None:
    certificate = {
        "languages": ["ko", "en"],
        "selection": {"max_tokens": 9000, "sources": {"ko": {"corpus_texts": 5}, "en": {"corpus_texts": 0}}},
        "source": {"model": "org/name", "revision": "c0ffee"},
    }
    recipe = recipe_of(artifact(vocabulary=certificate))
    assert "--languages ko,en --max-tokens 9000 --corpus ko=FILE" in recipe.command
    assert any("your own text" in note for note in recipe.notes)


def test_checkpoint_that_was_cut_before_is_not_cut_again() -> None:
    certificate = {"languages": ["en"], "selection": {}, "source": {"model": "another", "revision": None}}
    assert "--languages" not in recipe_of(artifact(vocabulary=certificate)).arguments


def test_graph_for_transformers_js() -> None:
    assert "--transformers-js" in recipe_of(artifact(model_file="onnx/model_quantized.onnx")).arguments


def test_inspect_prints_it_alone(small_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    options = BuildOptions(witness=False)
    checkpoint = open_checkpoint(small_checkpoint(max_length=32))
    build_all(checkpoint, ["pytorch-fp32"], tmp_path, options)
    done = CliRunner().invoke(cli, ["inspect", str(tmp_path / "pytorch-fp32"), "--command"])
    assert done.stdout == "ringkas build kure-v1 --target pytorch-fp32 --out again\n"
    assert "put its place" in done.stderr
