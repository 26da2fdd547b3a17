"""Artifacts: what is damaged, too new or dishonest is refused; a killed build spoils nothing."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import xxhash

import ringkas
from ringkas.artifact import (
    BUNDLE_VERSION,
    FORMAT_VERSION,
    Artifact,
    Manifest,
    manifest_checksum,
    open_artifact,
    seal,
)
from ringkas.errors import ArtifactError, RingkasError

TARGET = "pytorch-fp32"


@pytest.fixture(scope="module")
def checkpoint(small_checkpoint: Callable[..., Path]) -> Path:
    return small_checkpoint(max_length=32)  # many builds: each encodes the probe set


@pytest.fixture(scope="module")
def built(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ringkas.build(checkpoint, TARGET, tmp_path_factory.mktemp("dist")).path


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """An artifact that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / TARGET))


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edits the manifest and signs it again, as another program that writes artifacts would."""
    file = folder / "ringkas.json"
    manifest = json.loads(file.read_text("utf-8"))
    edit(manifest)
    file.write_text(json.dumps(manifest | {"checksum": manifest_checksum(manifest)}), "utf-8")


def flip_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


# The whole


def test_lists_every_file_and_its_size(built: Path) -> None:
    artifact = open_artifact(built)
    outside = {"ringkas.json", "parity.json"}
    on_disk = {
        file.relative_to(built).as_posix(): file.stat().st_size for file in built.rglob("*") if file.is_file()
    }
    listed = {name: entry.size for name, entry in artifact.manifest.files.items()}
    assert listed == {name: size for name, size in on_disk.items() if name not in outside}
    assert artifact.size == sum(listed.values())
    assert artifact.model_path.is_file()


def test_checksums_are_sha256(built: Path) -> None:
    tool = shutil.which("sha256sum")
    if tool is None:
        pytest.skip("there is no sha256sum to compare with")
    files = open_artifact(built).manifest.files
    done = subprocess.run([tool, *files], cwd=built, capture_output=True, text=True, check=True)
    sums = {name: sum for sum, name in (line.split(maxsplit=1) for line in done.stdout.splitlines())}
    assert {name: entry.sha256 for name, entry in files.items()} == sums


def test_manifest_survives_a_round_trip(built: Path) -> None:
    manifest = open_artifact(built).manifest
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=Manifest) == manifest
    assert manifest.source.model == "kure-v1"
    assert manifest.format_version == FORMAT_VERSION


def test_sealing_again_notes_what_changed(folder: Path) -> None:
    manifest = open_artifact(folder).manifest
    (folder / "extra.txt").write_text("more", "utf-8")
    flip_bit(folder / "model.safetensors")
    sealed = seal(folder, manifest)
    sealed.check_files()
    assert set(sealed.manifest.files) - set(manifest.files) == {"extra.txt"}
    before, after = manifest.files["model.safetensors"], sealed.manifest.files["model.safetensors"]
    assert before.sha256 != after.sha256
    assert open_artifact(folder).manifest == sealed.manifest


def test_sealing_reads_only_what_is_said_to_have_changed(folder: Path) -> None:
    manifest = open_artifact(folder).manifest
    model, card = folder / manifest.model_file, folder / "README.md"
    card.write_text("other", "utf-8")
    sealed = seal(folder, manifest, changed=["README.md"])
    assert sealed.manifest.files == seal(folder, manifest).manifest.files
    flip_bit(model)  # not said, so not read; and so it is found when it is opened
    assert seal(folder, manifest, changed=["README.md"]).manifest.files == sealed.manifest.files
    with pytest.raises(ArtifactError, match=re.escape(model.name)):
        ringkas.load(folder)


# Damage


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_bit_flip_is_found_by_loading(folder: Path, name: str) -> None:
    flip_bit(folder / name)
    open_artifact(folder)  # the sizes are as they were
    for use in ringkas.load, ringkas.verify:
        with pytest.raises(ArtifactError, match=rf"{re.escape(name)} was altered"):
            use(folder)


def test_unchecked_loading_trusts_the_content(folder: Path) -> None:
    flip_bit(folder / "model.safetensors")
    ringkas.load(folder, check=False).close()


def test_file_that_matches_only_the_quick_checksum_fails_the_full_one(folder: Path) -> None:
    (folder / "README.md").write_bytes(b"forged")

    def forge(manifest: dict[str, Any]) -> None:
        quick = xxhash.xxh3_128_hexdigest(b"forged")
        manifest["files"]["README.md"] |= {"size": 6, "xxh3": quick}

    change(folder, forge)
    ringkas.load(folder).close()
    with pytest.raises(ArtifactError, match=r"README\.md was altered.*SHA-256"):
        ringkas.verify(folder)


def test_untouched_files_pass_the_checksums(folder: Path) -> None:
    with ringkas.load(folder) as encoder:
        assert encoder.encode(["a"]).shape == (1, 32)


def test_every_flipped_bit_of_the_manifest_is_refused_or_harmless(folder: Path) -> None:
    """Space outside of strings may change; nothing that is read from the manifest may."""
    file = folder / "ringkas.json"
    whole, manifest = file.read_bytes(), open_artifact(folder).manifest
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        file.write_bytes(damaged)
        with suppress(ArtifactError):
            assert open_artifact(folder).manifest == manifest, (position, whole[position], damaged[position])


def test_key_written_twice_is_seen(folder: Path) -> None:
    file = folder / "ringkas.json"
    text = file.read_text("utf-8").rstrip().removesuffix("}").rstrip()
    file.write_text(f'{text},\n "model_file": "tokenizer.json"\n}}\n', "utf-8")
    with pytest.raises(ArtifactError, match=r"ringkas\.json was altered"):
        open_artifact(folder)


def test_deep_json_is_refused_in_one_line(folder: Path) -> None:
    for name in "ringkas.json", "parity.json":
        (folder / name).write_text("[" * 100_000, "utf-8")
        with pytest.raises(ArtifactError) as caught:
            ringkas.load(folder)
        assert "\n" not in str(caught.value)


def test_first_format_has_no_checksum_of_its_own(folder: Path) -> None:
    """Its files are compared by SHA-256."""

    def age(manifest: dict[str, Any]) -> None:
        manifest["format_version"] = 1
        for entry in manifest["files"].values():
            del entry["xxh3"]

    change(folder, age)
    manifest = json.loads((folder / "ringkas.json").read_text("utf-8"))
    del manifest["checksum"]
    (folder / "ringkas.json").write_text(json.dumps(manifest), "utf-8")
    ringkas.load(folder).close()
    flip_bit(folder / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"model\.safetensors was altered.*SHA-256"):
        ringkas.load(folder)


def test_claiming_the_first_format_does_not_switch_the_checksum_off(folder: Path) -> None:
    file = folder / "ringkas.json"
    manifest = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(manifest | {"format_version": 1, "name": "other"}), "utf-8")
    with pytest.raises(ArtifactError, match=r"ringkas\.json was altered"):
        open_artifact(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
@pytest.mark.parametrize("change", ["truncated", "longer", "missing"])
def test_incomplete_artifact_is_refused(folder: Path, name: str, change: str) -> None:
    file = folder / name
    data = file.read_bytes()
    if change == "missing":
        file.unlink()
    else:
        file.write_bytes(data[:-1] if change == "truncated" else data + b" ")
    with pytest.raises(ArtifactError) as caught:
        ringkas.load(folder)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [BUNDLE_VERSION + 1, 999])
def test_newer_format_says_to_upgrade(folder: Path, version: int) -> None:
    # A newer format may have fields that this version does not know: the version is what must be told.
    change(folder, lambda manifest: manifest.update(format_version=version, novelty=1))
    with pytest.raises(ArtifactError, match=rf"format version {version}.*pip install --upgrade ringkas"):
        ringkas.load(folder)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "..\\x", "onnx/../../x"])
@pytest.mark.parametrize("place", ["files", "model_file"])
def test_path_that_leaves_the_folder_is_refused(folder: Path, path: str, place: str) -> None:
    (folder.parent / "x").write_bytes(b"")
    entry = {"size": 0, "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}

    def edit(manifest: dict[str, Any]) -> None:
        manifest["files"][path] = entry
        if place == "model_file":
            manifest["model_file"] = path

    change(folder, edit)
    with pytest.raises(ArtifactError, match="leaves the folder"):
        ringkas.load(folder)


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda manifest: manifest.update(surprise=1), id="unknown field"),
        pytest.param(lambda manifest: manifest["encoding"].update(surprise=1), id="unknown field inside"),
        pytest.param(lambda manifest: manifest.pop("engine"), id="missing field"),
        pytest.param(lambda manifest: manifest.update(files=[]), id="files is a list"),
        pytest.param(lambda manifest: manifest["encoding"].update(max_length="512"), id="text for a number"),
        pytest.param(lambda manifest: manifest.pop("format_version"), id="no version"),
    ],
)
def test_invalid_manifest_is_refused(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    change(folder, edit)
    with pytest.raises(ArtifactError, match=r"ringkas\.json is not a valid manifest"):
        open_artifact(folder)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format_version": 1, "name": "\xff"}',
    ],
)
def test_manifest_that_is_no_json_object_is_refused(folder: Path, content: bytes) -> None:
    (folder / "ringkas.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"ringkas\.json is not a valid manifest"):
        open_artifact(folder)


def test_model_file_must_be_listed(folder: Path) -> None:
    change(folder, lambda manifest: manifest.update(model_file="other.onnx"))
    with pytest.raises(ArtifactError, match=r"lists no model file 'other\.onnx'"):
        open_artifact(folder)


def test_engine_of_a_later_version_says_to_upgrade(folder: Path) -> None:
    change(folder, lambda manifest: manifest.update(engine="warp"))
    with pytest.raises(ArtifactError, match=r"needs the engine 'warp'.*--upgrade"):
        ringkas.load(folder)


def test_precision_of_a_later_version_is_one_line(folder: Path) -> None:
    change(folder, lambda manifest: manifest.update(precision="fp99"))
    with pytest.raises(RingkasError, match="fp99"):
        ringkas.verify(folder)


@pytest.mark.parametrize("kind", ["missing", "a file", "no manifest", "the room"])
def test_what_is_no_artifact_is_refused(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "artifact"
    if kind == "a file":
        place.write_text("x", "utf-8")
    elif kind == "no manifest":
        place.mkdir()
    elif kind == "the room":
        (place / TARGET).mkdir(parents=True)
    with pytest.raises(ArtifactError, match=r"there is no artifact folder|is not an artifact"):
        ringkas.load(place)


# Parity


def test_failed_parity_is_refused_unless_allowed(folder: Path) -> None:
    parity = folder / "parity.json"
    report = json.loads(parity.read_text("utf-8"))
    parity.write_text(json.dumps(report | {"passed": False, "failures": ["en: far off"]}), "utf-8")
    with pytest.raises(ArtifactError, match="failed its parity check: en: far off"):
        ringkas.load(folder)
    with ringkas.load(folder, allow_failed=True) as encoder:
        assert encoder.encode(["a"]).shape == (1, 32)


def test_without_a_report_it_loads(folder: Path) -> None:
    (folder / "parity.json").unlink()
    assert open_artifact(folder).parity() is None
    ringkas.load(folder).close()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"passed": "yes"}',
        b'{"passed": true, "reference": "\xff"}',
        b'{"passed": false, "failures": null}',
    ],
)
def test_corrupt_report_is_one_line(folder: Path, content: bytes) -> None:
    (folder / "parity.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="parity") as caught:
        ringkas.load(folder)
    assert "\n" not in str(caught.value)
    ringkas.load(folder, allow_failed=True).close()  # it does not ask


def test_verifying_mends_a_corrupt_report(folder: Path) -> None:
    # It is what the message says to do.
    (folder / "parity.json").write_bytes(b"{")
    assert ringkas.verify(folder).passed
    ringkas.load(folder).close()


def test_kept_ids_are_read_back(folder: Path) -> None:
    (folder / "vocabulary").mkdir()
    np.save(folder / "vocabulary" / "kept_ids.npy", np.array([0, 1, 5], dtype=np.int32))
    manifest = msgspec.structs.replace(open_artifact(folder).manifest, vocabulary={"size": 3})
    kept = seal(folder, manifest).kept_ids()
    assert kept is not None
    assert kept.dtype == np.int64
    assert kept.tolist() == [0, 1, 5]


@pytest.mark.parametrize("content", [None, b"not an array", b""])
def test_kept_ids_that_cannot_be_read_are_one_line(folder: Path, content: bytes | None) -> None:
    if content is not None:
        (folder / "vocabulary").mkdir()
        (folder / "vocabulary" / "kept_ids.npy").write_bytes(content)
    manifest = msgspec.structs.replace(open_artifact(folder).manifest, vocabulary={"size": 3})
    with pytest.raises(ArtifactError, match=r"kept_ids\.npy cannot be read"):
        Artifact(folder, manifest).kept_ids()


# Builds that end early

# What a process is about to do when it kills itself as hard as a process can be killed.
MOMENTS = {
    "writing the weights": "ringkas.export.to_pytorch.write_weights",
    "verifying": "ringkas.export.finish.compare",
    "writing the report": "ringkas.export.finish.write_json",
}
KILLED = """
import importlib, os, signal, sys
module, _, name = sys.argv[1].rpartition(".")
def die(*args, **options):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(importlib.import_module(module), name, die)
import ringkas
ringkas.build(sys.argv[2], sys.argv[3], sys.argv[4], overwrite=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_build_leaves_the_earlier_artifact(folder: Path, checkpoint: Path, moment: str) -> None:
    room = folder.parent
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    arguments = [MOMENTS[moment], str(checkpoint), TARGET, str(room)]
    command, one_thread = [sys.executable, "-c", KILLED, *arguments], os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, check=False, env=one_thread)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (unfinished,) = (place for place in room.iterdir() if place != folder)  # it was killed in the middle
    with pytest.raises(ArtifactError, match="never finished"):
        ringkas.load(unfinished)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
    ringkas.load(folder).close()
    ringkas.build(checkpoint, TARGET, room, overwrite=True)
    assert [place.name for place in room.iterdir()] == [TARGET]
    ringkas.load(folder).close()


def test_killed_between_the_renames_the_next_build_finds_the_earlier(folder: Path, checkpoint: Path) -> None:
    folder.rename(folder.with_name(f".{TARGET}.previous"))
    with pytest.raises(ArtifactError, match="exists"):
        ringkas.build(checkpoint, TARGET, folder.parent)
    assert [place.name for place in folder.parent.iterdir()] == [TARGET]
    ringkas.load(folder).close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of so many kilobytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = False

    def mount(kilobytes: int) -> Path:
        nonlocal mounted
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
        found = shutil.which("mount") is not None
        if not found or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("a small file system cannot be mounted here")
        mounted = True
        return folder

    yield mount
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize(
    "kilobytes",
    [
        pytest.param(16, id="no room for the tokenizer"),
        pytest.param(300, id="no room for the weights"),
    ],
)
def test_full_disk_is_one_line_and_leaves_nothing(
    checkpoint: Path, small_disk: Callable[[int], Path], kilobytes: int
) -> None:
    disk = small_disk(kilobytes)
    with pytest.raises(RingkasError, match="No space left on device"):
        ringkas.build(checkpoint, TARGET, disk)
    assert list(disk.iterdir()) == []


def test_failed_build_leaves_the_earlier_artifact(
    folder: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("ringkas.export.finish.save_probe", full)
    with pytest.raises(ArtifactError, match=r"cannot write .*No space left on device"):
        ringkas.build(checkpoint, TARGET, folder.parent, overwrite=True)
    assert [place.name for place in folder.parent.iterdir()] == [TARGET]
    ringkas.load(folder).close()
