"""An artifact: one immutable folder a target, described by its manifest `ringkas.json`.

It is written beside its place and renamed into it, so that a killed run leaves nothing half-made. The
newest parity report, `parity.json`, is outside the checksums: a device can verify itself and record it.

A bundle is one folder that holds several variants of one model for other programs to choose from. Its
`ringkas.json` has the manifest of each, whose files are those of the folder that the variant needs.
"""

from __future__ import annotations

import re
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
    left_unfinished,
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
# Of a manifest of several variants. Who reads no further than artifacts is told to upgrade.
BUNDLE_VERSION = 3
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


class Bundle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The manifests of a bundle's variants by their targets; `checksum` as in `Manifest`."""

    format_version: int
    variants: dict[str, Manifest]
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
    """An artifact folder whose manifest was read and whose files are all there, at the size stated.

    `variant` names it in the bundle that it lies in; None for a folder of its own.
    """

    path: Path
    manifest: Manifest
    variant: str | None = None

    @property
    def model_path(self) -> Path:
        return self.path / self.manifest.model_file

    @property
    def parity_path(self) -> Path:
        """Where its newest parity report is."""
        return self.path / (PARITY_FILE if self.variant is None else parity_file(self.variant))

    @property
    def size(self) -> int:
        """Bytes of all files, tokenizer included; equal ones count once, since Triton's are links."""
        return sum({entry.sha256: entry.size for entry in self.manifest.files.values()}.values())

    def parity(self) -> RecordedParity | None:
        """The newest parity report, or None before the first.

        Raises:
            ArtifactError: it cannot be read.
        """
        file = self.parity_path
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

    @property
    def number_files(self) -> frozenset[str]:
        """The files that hold nothing but the numbers of tensors, so that nothing parses them."""
        return frozenset(name for name in self.manifest.files if name.endswith(_NUMBERS))

    def check_files(self, names: Collection[str] | None = None, *, quickly: bool = False) -> None:
        """Compares files, or those of `names`, with their SHA-256.

        `quickly` it is XXH3, which finds damage but no forgery.

        Raises:
            ArtifactError: a file was altered.
        """
        for name, entry in self.manifest.files.items():
            if names is not None and name not in names:
                continue
            found, stated, kind = (
                (xxh3(self.path / name), entry.xxh3, "XXH3")
                if quickly and entry.xxh3
                else (sha256(self.path / name), entry.sha256, "SHA-256")
            )
            if found != stated:
                raise ArtifactError(
                    f"{self.path / name} was altered", why=f"its {kind} is not the manifest's", fix=_REBUILD
                )


_NUMBERS = ".onnx_data"
_PARITY_FILES = re.compile(r"parity(\.[\w-]+)?\.json")
_REBUILD = "Build or copy the artifact again"
_FETCH = "Ask its owner, copy the artifact again, or run: git lfs pull"


def parity_file(variant: str) -> str:
    """The name of a variant's parity report in its bundle."""
    return f"parity.{variant}.json"


def open_artifact(path: str | Path, variant: str | None = None) -> Artifact:
    """Reads the manifest in the folder `path` and checks that every file is there at its size.

    Args:
        path: of an artifact, or of a bundle.
        variant: the target of the one that is meant, where a bundle holds several.

    Raises:
        ArtifactError: not an artifact, of a newer format, or incomplete; or a bundle of which no variant, or
            one that is not there, is named.
    """
    path = expand(path)
    require_utf8(path)
    if not path.is_dir():
        raise ArtifactError(f"there is no artifact folder {path}", fix="ringkas build makes one")
    if (unfinished := left_unfinished(path)) is not None:
        raise ArtifactError(
            f"{unfinished} was never finished",
            why="the run that was making it was killed",
            fix="Remove it, or run the same command again, which does",
        )
    manifest, chosen = _read_manifest(path, variant)
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
    return Artifact(path, manifest, chosen)


def seal(path: Path, manifest: Manifest, changed: Collection[str] | None = None) -> Artifact:
    """Lists every file of the folder in the manifest, writes it, and returns the artifact.

    `changed` names the only files that are new or other than `manifest` has them listed: the rest, which may
    be gigabytes, are not read again.
    """
    known = {} if changed is None else manifest.files
    kept = {name: entry for name, entry in known.items() if name not in (changed or ())}
    manifest = with_files(manifest, list_files(path, kept))
    write_json(path / MANIFEST_FILE, manifest)
    return Artifact(path, manifest)


def seal_bundle(path: Path, variants: Mapping[str, Manifest]) -> None:
    """Writes the manifest of a bundle, whose `variants` list their files already (`with_files`)."""
    bundle = Bundle(BUNDLE_VERSION, dict(variants))
    checksum = manifest_checksum(msgspec.to_builtins(bundle))
    write_json(path / MANIFEST_FILE, msgspec.structs.replace(bundle, checksum=checksum))


def list_files(path: Path, known: Mapping[str, FileEntry] | None = None) -> dict[str, FileEntry]:
    """Every file of the folder but manifest and parity reports; those that are `known` are not read."""
    names = sorted(
        file.relative_to(path).as_posix()
        for file in path.rglob("*")
        if file.is_file()
        and file.name not in (MANIFEST_FILE, SIGNATURE_FILE)
        and not _PARITY_FILES.fullmatch(file.name)
    )
    known = known or {}
    return {name: known.get(name) or _entry(path / name) for name in names}


def with_files(manifest: Manifest, files: Mapping[str, FileEntry]) -> Manifest:
    """The manifest with this list of files, and its own checksum."""
    manifest = msgspec.structs.replace(manifest, format_version=FORMAT_VERSION, files=dict(files))
    return msgspec.structs.replace(manifest, checksum=manifest_checksum(msgspec.to_builtins(manifest)))


def _entry(file: Path) -> FileEntry:
    return FileEntry(file.stat().st_size, sha256(file), xxh3(file))


def manifest_checksum(fields: Mapping[str, Any]) -> str:
    """What `checksum` must be in a manifest of these fields; the field itself does not count."""
    others = {name: value for name, value in fields.items() if name != "checksum"}
    return xxhash.xxh3_128_hexdigest(msgspec.json.encode(others, order="sorted"))


def variants_of(path: str | Path) -> tuple[str, ...]:
    """The variants of a bundle; none where `path` is no bundle.

    Raises:
        ArtifactError: the manifest cannot be read.
    """
    found = _decode(expand(path))
    return tuple(found.variants) if isinstance(found, Bundle) else ()


def _read_manifest(path: Path, variant: str | None) -> tuple[Manifest, str | None]:
    """The manifest that is meant, and its name where it is one of a bundle."""
    found = _decode(path)
    if isinstance(found, Manifest):
        if variant not in (None, found.target):
            raise ArtifactError(
                f"{path} holds {found.target}, not {variant!r}",
                fix="Leave the variant out, or name another folder",
            )
        chosen, name = found, None
    else:
        listed = ", ".join(found.variants)
        if variant is None and len(found.variants) != 1:
            raise ArtifactError(
                f"{path} is a bundle of {len(found.variants)} variants, of which none is named",
                fix=f"Name one with --variant, or variant= in Python: {listed}",
            )
        name = variant if variant is not None else next(iter(found.variants))
        if name not in found.variants:
            raise ArtifactError(f"the bundle {path} has no variant {name!r}", fix=f"Choose from: {listed}")
        chosen = found.variants[name]
    _inside(path, chosen.model_file)
    return chosen, name


def _decode(path: Path) -> Manifest | Bundle:
    """What `ringkas.json` says, once it is known to say what was written."""
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
        if version > BUNDLE_VERSION:
            raise ArtifactError(
                f"{path} has format version {version}",
                why=f"this ringkas reads up to {BUNDLE_VERSION}",
                fix="Run: pip install --upgrade ringkas",
            )
        kind: type[Manifest] | type[Bundle] = Bundle if version == BUNDLE_VERSION else Manifest
        found = msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{file} is not a valid manifest", why=str(error), fix=_REBUILD) from None
    if found.checksum != (manifest_checksum(msgspec.json.decode(data)) if version > 1 else ""):
        raise ArtifactError(f"{file} was altered", why="it is not what its own checksum says", fix=_REBUILD)
    return found


class _Version(msgspec.Struct):
    format_version: int


def _inside(path: Path, name: str) -> Path:
    """`path / name`, after checking that it stays in the folder."""
    if not is_inside(name):
        raise ArtifactError(
            f"the manifest of {path} names {name!r}, which leaves the folder", why="no honest artifact does"
        )
    return path / name
