"""Signatures: what the holder of a key signed passes; what was altered since, checksums and all, does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import ringkas
from ringkas.artifact import manifest_checksum, open_artifact, seal
from ringkas.cli import cli
from ringkas.errors import ArtifactError
from ringkas.files import sha256, xxh3
from ringkas.signing import check_signature, make_key, sign

pytest.importorskip("cryptography", reason="no cryptography: pip install 'ringkas[sign]'")
TARGET = "pytorch-fp32"


@pytest.fixture(scope="module")
def built(small_checkpoint: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ringkas.build(
        small_checkpoint(max_length=32), TARGET, tmp_path_factory.mktemp("dist"), witness=False
    ).path


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / TARGET))


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "key.pem")
    return tmp_path / "key.pem"


def ask(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(one) for one in arguments])


def forge(folder: Path, name: str) -> None:
    """Alters a file and writes every checksum anew, as who has no key can."""
    file = folder / name
    data = bytearray(file.read_bytes())
    data[-4] ^= 1  # the last bit of the last weight
    file.write_bytes(data)
    place = folder / "ringkas.json"
    manifest = json.loads(place.read_text("utf-8"))
    manifest["files"][name] = {"size": len(data), "sha256": sha256(file), "xxh3": xxh3(file)}
    place.write_text(json.dumps(manifest | {"checksum": manifest_checksum(manifest)}), "utf-8")


def test_signed_artifact_passes_and_still_loads(folder: Path, key: Path) -> None:
    assert ask("sign", folder, "--key", key).exit_code == 0
    done = ask("verify", folder, "--key", key.with_suffix(".pub"))
    assert done.exit_code == 0, done.output
    ringkas.load(folder).close()


def test_forged_artifact_passes_its_checksums_but_not_its_signature(folder: Path, key: Path) -> None:
    sign(folder, key)
    forge(folder, "model.safetensors")
    assert ask("verify", folder).exit_code == 0  # the sabotage is whole: without the key nobody sees it
    done = ask("verify", folder, "--key", key.with_suffix(".pub"))
    assert done.exit_code == 2
    assert "is not what was signed" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unsigned_artifact_is_refused_where_a_key_is_asked_for(folder: Path, key: Path) -> None:
    assert "is not signed" in ask("verify", folder, "--key", key.with_suffix(".pub")).stderr


def test_another_key_is_refused(folder: Path, key: Path, tmp_path: Path) -> None:
    sign(folder, key)
    other = make_key(tmp_path / "other.pem")
    with pytest.raises(ArtifactError, match="signed by another key"):
        check_signature(open_artifact(folder), other)


def test_forger_s_own_signature_is_refused(folder: Path, key: Path, tmp_path: Path) -> None:
    make_key(tmp_path / "other.pem")
    forge(folder, "config.json")
    sign(folder, tmp_path / "other.pem")
    with pytest.raises(ArtifactError, match="signed by another key"):
        check_signature(open_artifact(folder), key.with_suffix(".pub"))


def test_every_flipped_bit_of_the_signature_is_refused(folder: Path, key: Path) -> None:
    file = sign(folder, key)
    whole = file.read_bytes()
    value = json.loads(whole)["value"].encode()
    for position in range(whole.index(value), whole.index(value) + len(value) - 2, 5):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        file.write_bytes(damaged)
        with pytest.raises(ArtifactError):
            check_signature(open_artifact(folder), key.with_suffix(".pub"))


def test_damaged_artifact_is_not_signed(folder: Path, key: Path) -> None:
    (folder / "config.json").write_bytes((folder / "config.json").read_bytes()[:-1] + b" ")
    with pytest.raises(ArtifactError, match="altered"):
        sign(folder, key)


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_one_line(folder: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.pem").write_bytes(content)
    for command in (("sign", folder), ("verify", folder)):
        done = ask(*command, "--key", tmp_path / "bad.pem")
        assert done.exit_code == 2
        assert len(done.stderr.splitlines()) == 1


def test_key_of_another_kind_is_refused(folder: Path, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = X25519PrivateKey.generate()
    text = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    (tmp_path / "x.pem").write_bytes(text)
    with pytest.raises(ArtifactError, match="no Ed25519 key"):
        sign(folder, tmp_path / "x.pem")


def test_key_is_its_owner_s_and_never_replaced(key: Path) -> None:
    assert key.stat().st_mode & 0o077 == 0
    with pytest.raises(ArtifactError, match="exists"):
        make_key(key)


def test_new_key_and_signature_in_one_command(folder: Path, tmp_path: Path) -> None:
    done = ask("sign", folder, "--new-key", tmp_path / "mine.pem")
    assert done.exit_code == 0, done.output
    check_signature(open_artifact(folder), tmp_path / "mine.pub")


def test_sealing_anew_leaves_the_signature_out_of_the_list(folder: Path, key: Path) -> None:
    sign(folder, key)
    sealed = seal(folder, open_artifact(folder).manifest)
    assert not any(name.endswith(".sig") for name in sealed.manifest.files)
