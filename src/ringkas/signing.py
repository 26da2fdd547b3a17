"""Signatures of artifacts: who made it, not only whether it is whole.

A checksum finds damage; who forges an artifact writes the checksums anew. A signature by Ed25519 (RFC 8032)
over the manifest, which holds the SHA-256 of every file, cannot be made without the private key. It stands
beside the manifest as `ringkas.json.sig`, and like `parity.json`, which is not signed, outside its list.
"""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec

from ringkas.artifact import MANIFEST_FILE, SIGNATURE_FILE, Artifact, open_artifact
from ringkas.errors import ArtifactError
from ringkas.extras import require
from ringkas.files import expand, read_whole, write_bytes, write_json

# What is signed begins with this, so that a signature is good for nothing else.
_PURPOSE = b"ringkas artifact manifest 1\n"
_MOST_KEY = 1 << 16


class Signature(msgspec.Struct, frozen=True):
    """`ringkas.json.sig`: `key` is the SHA-256 of the public key's 32 bytes, `value` is base64."""

    algorithm: str
    key: str
    value: str


def make_key(place: Path) -> Path:
    """Writes a new private key to `place` (PEM, for its owner alone); the public key's file beside it.

    Raises:
        ArtifactError: there is one.
        MissingExtra: `cryptography` is not installed.
    """
    require("sign", "cryptography")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    place = expand(place)
    public = place.with_suffix(".pub")
    if public == place:
        raise ArtifactError(f"{place} is no name for a private key", fix="End it with .pem")
    for file in (place, public):
        if file.exists():
            raise ArtifactError(f"{file} exists", why="a key is never replaced", fix="Choose another name")
    key = Ed25519PrivateKey.generate()
    text = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    opened = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(opened, "wb") as stream:
        stream.write(text)
    shown = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    write_bytes(public, shown)
    return public


def sign(artifact: str | Path | Artifact, key: Path) -> Path:
    """Signs an artifact whose files are as its manifest says, with the private key in `key`.

    Returns the signature's file.

    Raises:
        ArtifactError: a file was altered, or the key cannot be used.
        MissingExtra: `cryptography` is not installed.
    """
    require("sign", "cryptography")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    private = _key(key, lambda data: load_pem_private_key(data, None), Ed25519PrivateKey)
    opened = artifact if isinstance(artifact, Artifact) else open_artifact(artifact)
    opened.check_files()
    value = base64.b64encode(private.sign(_signed(opened))).decode()
    file = opened.path / SIGNATURE_FILE
    write_json(file, Signature("ed25519", _fingerprint(private.public_key()), value))
    return file


def check_signature(artifact: Artifact, key: Path) -> None:
    """Checks that the holder of the private key to `key` signed this manifest; its files are not looked at.

    Raises:
        ArtifactError: it is not signed, by another key, or was altered since.
        MissingExtra: `cryptography` is not installed.
    """
    require("sign", "cryptography")
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    public = _key(key, load_pem_public_key, Ed25519PublicKey)
    signature = _read(artifact.path / SIGNATURE_FILE)
    if signature.key != _fingerprint(public):
        raise ArtifactError(f"{artifact.path} was signed by another key", why=f"{key} is not its public key")
    try:
        public.verify(base64.b64decode(signature.value, validate=True), _signed(artifact))
    except (InvalidSignature, ValueError):
        raise ArtifactError(
            f"{artifact.path} is not what was signed",
            why=f"{MANIFEST_FILE} was altered since, or the signature was",
            fix="Copy it again from who signed it",
        ) from None


def _signed(artifact: Artifact) -> bytes:
    # The file as it was read: between the two it must not have become another.
    data = read_whole(artifact.path / MANIFEST_FILE)
    if open_artifact(artifact.path).manifest != artifact.manifest:
        raise ArtifactError(f"{artifact.path} was altered while it was read")
    return _PURPOSE + data


def _read(file: Path) -> Signature:
    try:
        return msgspec.json.decode(read_whole(file, _MOST_KEY), type=Signature)
    except FileNotFoundError:
        raise ArtifactError(f"{file.parent} is not signed", why=f"it has no {SIGNATURE_FILE}") from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{file} is not a signature", why=str(error)) from None


def _key(file: Path, read: Any, kind: type[Any]) -> Any:
    file = expand(file)
    try:
        key = read(read_whole(file, _MOST_KEY))
    except OSError as error:
        raise ArtifactError(f"the key {file} cannot be read", why=error.strerror or str(error)) from None
    except Exception as error:  # encrypted, of an unknown kind, not PEM: a type for each
        raise ArtifactError(f"{file} is no key that can be used", why=str(error).partition("\n")[0]) from None
    if not isinstance(key, kind):
        raise ArtifactError(
            f"{file} is no Ed25519 key", why=f"it holds a {type(key).__name__}", fix="ringkas sign --new-key"
        )
    return key


def _fingerprint(public: Any) -> str:
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()
