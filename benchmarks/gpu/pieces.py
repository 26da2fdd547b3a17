"""Large files in pieces, for a machine that takes a little at a time and reaches no registry.

    python benchmarks/gpu/pieces.py pack FILE_OR_FOLDER... --out .gpu [--load-mib 56]
    python benchmarks/gpu/pieces.py unpack FOLDER --out FOLDER

`pack` fills the folders OUT/load-00, load-01, ... with at most so much each, in the order of the arguments;
`contents.json` in every load says what belongs together. Copy the loads that you need into one folder there
and `unpack` it: wheels, weights and folders (they travel as tar files) come out as they were, or an error
names what is missing or damaged. Only the standard library is used, since the machine may have nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

CONTENTS = "contents.json"
_CHUNK = 1 << 20


class PiecesError(Exception):
    """What travelled is incomplete or damaged."""


def pack(sources: Sequence[Path], out: Path, load_bytes: int) -> list[Path]:
    """Writes the loads, replacing any that are there, and returns their folders.

    Raises:
        PiecesError: two sources have the same name, or one is not there.
    """
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise PiecesError("two sources have the same name: rename one")
    missing = [str(source) for source in sources if not source.exists()]
    if missing:
        raise PiecesError(f"there is no {', '.join(missing)}")
    for old in out.glob("load-*"):
        shutil.rmtree(old)
    out.mkdir(parents=True, exist_ok=True)
    entries = []
    loads = _Loads(out, load_bytes)
    for source in sources:
        whole = _tarred(source, out) if source.is_dir() else source
        entries.append({"name": source.name, "folder": source.is_dir(), "pieces": loads.add(whole)})
        if source.is_dir():
            whole.unlink()
    for folder in loads.folders:
        (folder / CONTENTS).write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return loads.folders


class _Loads:
    """Fills one folder after another; the last is open. A piece never stands in two."""

    def __init__(self, out: Path, load_bytes: int) -> None:
        self.folders: list[Path] = []
        self._out, self._load_bytes, self._left, self._count = out, load_bytes, 0, 0

    def add(self, file: Path) -> list[dict[str, Any]]:
        pieces = []
        with file.open("rb") as stream:
            while True:
                if self._left == 0:
                    self._open()
                piece = self.folders[-1] / f"piece-{self._count:04d}"
                size, digest = _copy(stream, piece, self._left)
                if size == 0:
                    piece.unlink()
                    if pieces or file.stat().st_size:
                        return pieces
                    piece.touch()
                pieces.append({"name": piece.name, "size": size, "sha256": digest})
                self._left -= size
                self._count += 1
                if size == 0:
                    return pieces

    def _open(self) -> None:
        self.folders.append(self._out / f"load-{len(self.folders):02d}")
        self.folders[-1].mkdir()
        self._left = self._load_bytes


def unpack(folder: Path, out: Path) -> list[Path]:
    """Joins what lies in `folder`, the pieces of one or several loads, and returns what came out.

    Sources of which no piece is here are left out: not every load need travel.

    Raises:
        PiecesError: a piece of a source that is here in part is missing, or one is damaged.
    """
    contents = sorted(folder.rglob(CONTENTS))
    if not contents:
        raise PiecesError(f"{folder} holds no {CONTENTS}")
    found = {file.name: file for file in folder.rglob("piece-*")}
    out.mkdir(parents=True, exist_ok=True)
    made = []
    for entry in json.loads(contents[0].read_text(encoding="utf-8")):
        missing = [piece["name"] for piece in entry["pieces"] if piece["name"] not in found]
        if len(missing) == len(entry["pieces"]):
            continue
        if missing:
            raise PiecesError(f"{entry['name']} lacks {', '.join(missing)}")
        partial = out / f".partial-{entry['name']}"
        _join(entry, found, partial)
        made.append(_placed(entry, partial, out))
    return made


def _join(entry: dict[str, Any], found: dict[str, Path], partial: Path) -> None:
    with partial.open("wb") as whole:
        for piece in entry["pieces"]:
            digest = hashlib.sha256()
            with found[piece["name"]].open("rb") as stream:
                for data in _chunks(stream, piece["size"] + 1):
                    digest.update(data)
                    whole.write(data)
            if digest.hexdigest() != piece["sha256"]:
                whole.close()
                partial.unlink()
                raise PiecesError(f"{entry['name']}: {piece['name']} is damaged")


def _placed(entry: dict[str, Any], partial: Path, out: Path) -> Path:
    place = out / entry["name"]
    if not entry["folder"]:
        os.replace(partial, place)
        return place
    shutil.rmtree(place, ignore_errors=True)
    with tarfile.open(partial) as tar:
        tar.extractall(out, filter="data")
    partial.unlink()
    return place


def _tarred(folder: Path, out: Path) -> Path:
    file = out / f".{folder.name}.tar"
    with tarfile.open(file, "w") as tar:
        tar.add(folder, arcname=folder.name)
    return file


def _copy(stream: BinaryIO, place: Path, most: int) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with place.open("wb") as out:
        for data in _chunks(stream, most):
            out.write(data)
            digest.update(data)
            size += len(data)
    return size, digest.hexdigest()


def _chunks(stream: BinaryIO, most: int) -> Iterator[bytes]:
    while most > 0 and (data := stream.read(min(_CHUNK, most))):
        most -= len(data)
        yield data


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("sources", nargs="+", type=Path)
    packing.add_argument("--load-mib", type=int, default=56)
    unpacking = commands.add_parser("unpack")
    unpacking.add_argument("folder", type=Path)
    for each in (packing, unpacking):
        each.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    try:
        if options.command == "pack":
            made = pack(options.sources, options.out, options.load_mib << 20)
        else:
            made = unpack(options.folder, options.out)
    except PiecesError as error:
        sys.exit(str(error))
    print(*made, sep="\n")


if __name__ == "__main__":
    main()
