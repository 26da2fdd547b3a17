"""Whether two versions of the code make the same artifacts: every file, and every vector, byte for byte.

    python benchmarks/same_artifacts.py snapshot DIR --out before.json     # with the earlier code
    python benchmarks/same_artifacts.py snapshot DIR --out after.json      # with the later code
    python benchmarks/same_artifacts.py compare before.json after.json     # exit status 1 where they differ

`snapshot` hashes the files of each artifact in DIR and the vectors that the code at hand encodes the built-in
probe texts to. What may differ, and is left out: `parity.json` (the newest report, with the time's own tool
versions), and in `ringkas.json` the versions of tools. Nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

LEFT_OUT = ("parity.json",)
LEFT_OUT_OF_THE_MANIFEST = ("tools",)


def snapshot(folder: Path, *, vectors: bool = True) -> dict[str, dict[str, str]]:
    """By artifact and file, the SHA-256; that of the vectors stands under `vectors`."""
    found: dict[str, dict[str, str]] = {}
    for manifest in sorted(folder.glob("*/ringkas.json")):
        place = manifest.parent
        files = (file for file in sorted(place.rglob("*")) if file.is_file() and file.name not in LEFT_OUT)
        found[place.name] = {file.relative_to(place).as_posix(): _digest(file) for file in files}
        if vectors:
            found[place.name]["vectors"] = _vectors(place)
    return found


def differences(before: dict[str, dict[str, str]], after: dict[str, dict[str, str]]) -> list[str]:
    """What is not the same, one line each."""
    lines = [f"{name}: only in one of the two" for name in sorted(before.keys() ^ after.keys())]
    for name in sorted(before.keys() & after.keys()):
        for file in sorted(before[name].keys() | after[name].keys()):
            if before[name].get(file) != after[name].get(file):
                lines.append(f"{name}/{file}: differs")
    return lines


def _digest(file: Path) -> str:
    data = file.read_bytes()
    if file.name == "ringkas.json":
        manifest: dict[str, Any] = json.loads(data)
        # The manifest lists every file's checksum itself; what is left out there is named above.
        kept = {key: value for key, value in manifest.items() if key not in LEFT_OUT_OF_THE_MANIFEST}
        data = json.dumps(kept, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def _vectors(place: Path) -> str:
    import ringkas
    from ringkas import texts

    probe = [text for lines in texts.probe(("en", "ko", "th")).values() for text in lines]
    try:
        with ringkas.load(place, threads=1, allow_failed=True) as encoder:
            return hashlib.sha256(encoder.encode(probe).tobytes()).hexdigest()
    except ringkas.RingkasError as error:  # an engine that is not here: a plan without its GPU
        return f"not run: {type(error).__name__}"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    taking = commands.add_parser("snapshot")
    taking.add_argument("folder", type=Path)
    taking.add_argument("--out", type=Path, required=True)
    comparing = commands.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    asked = parser.parse_args()
    if asked.command == "snapshot":
        asked.out.write_text(json.dumps(snapshot(asked.folder), indent=1) + "\n", encoding="utf-8")
        return 0
    before, after = (json.loads(file.read_text("utf-8")) for file in (asked.before, asked.after))
    lines = differences(before, after)
    hashes = sum(map(len, before.values()))
    print("\n".join(lines) or f"{len(before)} artifacts, {hashes} hashes: all the same")
    return 1 if lines or not before else 0


if __name__ == "__main__":
    sys.exit(main())
