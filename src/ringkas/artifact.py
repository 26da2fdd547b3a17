"""An artifact: one immutable folder a target, described by its manifest `ringkas.json`.

It is written beside its place and renamed into it, so that a killed run leaves nothing half-made. The
newest parity report, `parity.json`, is outside the checksums: a device can verify itself and record it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import xxhash

from ringkas.errors import ArtifactError
from ringkas.files import (
    expand,
    is_inside,
    read_whole,
    require_utf8,
    sha256,
    why_unreadable,
    write_json,
    xxh3,
)
from ringkas.spec import EncodingSpec
from ringkas.tokens import Ids
from ringkas.vocabulary import load_kept_ids

# 1 had neither the manifest's own checksum nor XXH3 of the files.
FORMAT_VERSION = 2
MANIFEST_FILE = "ringkas.json"
PARITY_FILE = "parity.json"
SIGNATURE_FILE = f"{MANIFEST_FILE}.sig"


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights came from. `revision` is the hub's commit, or None for a local folder; `note` is what
    a reader must know of them."""

    model: str
    revision: str | None = None
    licence: str | None = None
    note: str = ""


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size in bytes, SHA-256 and XXH3 of one file. Format 1 has no XXH3."""

    size: int
    sha256: str
    xxh3: str = ""


class Witness(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which library computed the same as the reference from the same checkpoint, and on how much.

    `library` is "none" where nobody was asked. `texts` counts texts whose token ids were compared, `vectors`
    those whose vectors were; `difference` is the largest of any component. `notes` say what the library does
    otherwise without being contradicted.
    """

    library: str
    version: str = ""
    texts: int = 0
    vectors: int = 0
    difference: float = 0.0
    notes: tuple[str, ...] = ()


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What an artifact is. `languages` is empty when the vocabulary and the checkpoint know no limit.

    `vocabulary` is the pruning certificate, None for a full vocabulary; `model_file` is what the engine
    opens, relative to the folder; `scheme` records how the weights are stored. `promised_cosine_min` was
    asked for when it was built, and judges it beside the floor of its precision. `execution` says, where an
    artifact is built on another machine than it runs on, what was done and what was not. `witness` is None
    in artifacts of before there was one. `search` is what it was worth at search when it was built, by
    language (runtimes/parity/search.py). `checksum` is the manifest's own: XXH3 of all its other fields as
    JSON with sorted keys and no spaces.
    """

    format_version: int = FORMAT_VERSION
    name: str
    target: str
    engine: str
    precision: str
    source: Source
    encoding: EncodingSpec
    model_file: str
    scheme: dict[str, Any] = {}
    languages: tuple[str, ...] = ()
    vocabulary: dict[str, Any] | None = None
    files: dict[str, FileEntry] = {}
    tools: dict[str, str] = {}
    promised_cosine_min: float | None = None
    execution: str = ""
    witness: Witness | None = None
    search: list[dict[str, Any]] = []
    checksum: str = ""


class RecordedParity(msgspec.Struct, frozen=True):
    """What `parity.json` must say; the full report has more (runtimes/parity/judge.py)."""

    passed: bool
    failures: tuple[str, ...]
    reference: str
    cosine_min: float
    cosine_mean: float
    top10_overlap: float
    spearman: float


@dataclass(frozen=True)
class Artifact:
    """An artifact folder whose manifest was read and whose files are all there, at the size stated."""

    path: Path
    manifest: Manifest

    @property
    def model_path(self) -> Path:
        return self.path / self.manifest.model_file

    @property
    def size(self) -> int:
        """Bytes of all files, tokenizer included; equal ones count once, since Triton's are links."""
        return sum({entry.sha256: entry.size for entry in self.manifest.files.values()}.values())

    def parity(self) -> RecordedParity | None:
        """The newest parity report, or None before the first.

        Raises:
            ArtifactError: it cannot be read.
        """
        file = self.path / PARITY_FILE
        if not file.is_file():
            return None
        try:
            return msgspec.json.decode(read_whole(file), type=RecordedParity)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ArtifactError(
                f"{file} is not a parity report",
                why=str(error),
                fix=f"Write it anew: ringkas verify {self.path}",
            ) from None

    def kept_ids(self) -> Ids | None:
        """For a pruned vocabulary, the old id of each new id; None for a full one."""
        if self.manifest.vocabulary is None:
            return None
        return load_kept_ids(self.path)

    def check_files(self, *, quickly: bool = False) -> None:
        """Compares every file with its SHA-256, or `quickly` with XXH3, which finds damage but no forgery.

        Raises:
            ArtifactError: a file was altered.
        """
        for name, entry in self.manifest.files.items():
            found, stated, kind = (
                (xxh3(self.path / name), entry.xxh3, "XXH3")
                if quickly and entry.xxh3
                else (sha256(self.path / name), entry.sha256, "SHA-256")
            )
            if found != stated:
                raise ArtifactError(
                    f"{self.path / name} was altered", why=f"its {kind} is not the manifest's", fix=_REBUILD
                )


_REBUILD = "Build or copy the artifact again"
_FETCH = "Ask its owner, copy the artifact again, or run: git lfs pull"


def open_artifact(path: str | Path) -> Artifact:
    """Reads the manifest in the folder `path` and checks that every file is there at its size.

    Raises:
        ArtifactError: not an artifact, of a newer format, or incomplete.
    """
    path = expand(path)
    require_utf8(path)
    if not path.is_dir():
        raise ArtifactError(f"there is no artifact folder {path}", fix="ringkas build makes one")
    manifest = _read_manifest(path)
    for name, entry in manifest.files.items():
        file = _inside(path, name)
        if not file.is_file():
            raise ArtifactError(f"{file} is missing", why="the manifest lists it", fix=_REBUILD)
        if reason := why_unreadable(file):
            raise ArtifactError(f"{file} cannot be read", why=reason, fix=_FETCH)
        if file.stat().st_size != entry.size:
            raise ArtifactError(
                f"{file} has {file.stat().st_size} bytes, not {entry.size}",
                why="it is cut short or altered",
                fix=_REBUILD,
            )
    if manifest.model_file not in manifest.files:
        raise ArtifactError(f"{path} lists no model file {manifest.model_file!r}", fix=_REBUILD)
    return Artifact(path, manifest)


def seal(path: Path, manifest: Manifest, changed: Collection[str] | None = None) -> Artifact:
    """Lists every file of the folder in the manifest, writes it, and returns the artifact.

    `changed` names the only files that are new or other than `manifest` has them listed: the rest, which may
    be gigabytes, are not read again.
    """
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file() and file.name not in (MANIFEST_FILE, PARITY_FILE, SIGNATURE_FILE)
    )
    known = {} if changed is None else manifest.files
    kept = {name: entry for name, entry in known.items() if name not in (changed or ())}
    files = {name: kept.get(name) or _entry(path / name) for name in names}
    manifest = msgspec.structs.replace(manifest, format_version=FORMAT_VERSION, files=files)
    manifest = msgspec.structs.replace(manifest, checksum=manifest_checksum(msgspec.to_builtins(manifest)))
    write_json(path / MANIFEST_FILE, manifest)
    return Artifact(path, manifest)


def _entry(file: Path) -> FileEntry:
    return FileEntry(file.stat().st_size, sha256(file), xxh3(file))


def manifest_checksum(fields: Mapping[str, Any]) -> str:
    """What `checksum` must be in a manifest of these fields; the field itself does not count."""
    others = {name: value for name, value in fields.items() if name != "checksum"}
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(others, order="sorted"))


def _read_manifest(path: Path) -> Manifest:
    file = path / MANIFEST_FILE
    try:
        data = read_whole(file)
    except (FileNotFoundError, NotADirectoryError):
        raise ArtifactError(
            f"{path} is not an artifact", why=f"it has no {MANIFEST_FILE}", fix="ringkas build makes one"
        ) from None
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read", why=str(error.strerror), fix=_FETCH) from None
    try:
        version = msgspec.json.decode(data, type=_Version).format_version
        if version > FORMAT_VERSION:
            raise ArtifactError(
                f"{path} has format version {version}",
                why=f"this ringkas reads up to {FORMAT_VERSION}",
                fix="Run: pip install --upgrade ringkas",
            )
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{file} is not a valid manifest", why=str(error), fix=_REBUILD) from None
    if manifest.checksum != (manifest_checksum(msgspec.json.decode(data)) if version > 1 else ""):
        raise ArtifactError(f"{file} was altered", why="it is not what its own checksum says", fix=_REBUILD)
    _inside(path, manifest.model_file)
    return manifest


class _Version(msgspec.Struct):
    format_version: int


def _inside(path: Path, name: str) -> Path:
    """`path / name`, after checking that it stays in the folder."""
    if not is_inside(name):
        raise ArtifactError(
            f"the manifest of {path} names {name!r}, which leaves the folder", why="no honest artifact does"
        )
    return path / name
