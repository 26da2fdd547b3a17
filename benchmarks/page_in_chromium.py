"""The demo page played in headless Chromium: sizes, time to the first result, vectors beside the facade's.

    python benchmarks/page_in_chromium.py ARTIFACT... [--json FILE] [--pictures FOLDER] [--guide FILE]
    python benchmarks/page_in_chromium.py --guide docs/clients.md     # writes the results file's table again

Times are of one run from an empty cache over this machine's own loopback: what a network adds is not in them.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from peers.environments import interpreter
from results_file import write_result

import ringkas
from ringkas.artifact import Artifact, open_artifact
from ringkas.export.demo_page import demo_page
from ringkas.questions import Question, questions
from ringkas.runtimes.parity.judge import cosine

RESULTS = Path(__file__).parent / "results" / "demo_page.json"
_PLAY = Path(__file__).parent / "peers" / "play_page.mjs"
_LINES = ["The cat sleeps on the sofa.", "The train leaves at nine.", "Boil the eggs."]
_BEGIN, _END = "<!-- page: begin -->", "<!-- page: end -->"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifacts", type=Path, nargs="*")
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--guide", type=Path)
    options = parser.parse_args()
    if options.artifacts:
        rows = [measure(open_artifact(path), options.pictures) for path in options.artifacts]
        write_result(options.json, {"rows": rows})
        print(json.dumps(rows, indent=1, ensure_ascii=False))
    if options.guide is not None:
        write_guide(options.guide, json.loads(options.json.read_text(encoding="utf-8"))["rows"])


def measure(artifact: Artifact, pictures: Path | None = None) -> dict[str, Any]:
    """What the page of an artifact weighs, and what Chromium found when it was played."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        made = demo_page(artifact, place / "site", packages=interpreter("node"))
        asked = asked_of(artifact)
        texts = ["", "a short text", "emoji 🙂, Ünïcode", *(one.query for one in asked[:4])]
        found = play(made.path, plan(asked, texts), place)
        if pictures is not None:
            for picture in place.glob("*.png"):
                shutil.copyfile(picture, pictures / f"{artifact.manifest.target}-{picture.name}")
    with ringkas.load(artifact) as encoder:
        expected = encoder.encode(texts)
    return {
        "model": artifact.manifest.name,
        "target": artifact.manifest.target,
        "languages": list(artifact.manifest.languages),
        "model_bytes": made.model,
        "wasm_bytes": made.runtime,
        "other_bytes": made.other,
        "ready_s": round(found["opened"] / 1000, 2),
        "first_result_s": round(found["first_result"] / 1000, 2),
        "cosine_with_facade_min": float(f"{cosine(expected, np.float32(found['vectors'])).min():.6f}"),
        "right_first": sum(first in one.passages for first, one in zip(found["first"], asked, strict=False)),
        "asked": len(found["first"]),
        "console": found["said"],
        "outside": found["outside"],
        "offline": found["offline"] == found["first"][0],
    }


def asked_of(artifact: Artifact) -> Sequence[Question]:
    """Questions whose passages are on the page, of each of its languages in turn."""
    own = list(questions(artifact.manifest.languages or ("en",)).values())
    return [question for together in zip(*own, strict=False) for question in together]


def plan(asked: Sequence[Question], texts: Sequence[str]) -> dict[str, Any]:
    """What is typed, which vectors are asked for, and the lines that a person brings."""
    return {
        "chromium": shutil.which("chromium"),
        "queries": [one.query for one in asked[:4]],
        "vectors": list(texts),
        "lines": _LINES,
        "line_query": "when does the train depart",
    }


def play(page: Path, plan: Mapping[str, Any], pictures: Path) -> dict[str, Any]:
    """Plays a page as `play_page.mjs` says; pictures go to a folder.

    Raises:
        RuntimeError: Chromium or the page failed; what was said is in the message.
    """
    place = interpreter("browser")
    shutil.copyfile(_PLAY, place / _PLAY.name)
    with tempfile.TemporaryDirectory() as name, serving(page) as address:
        file = Path(name) / "plan.json"
        file.write_text(json.dumps(plan), encoding="utf-8")
        command = ["node", _PLAY.name, address, str(file), str(pictures)]
        done = subprocess.run(command, cwd=place, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-2000:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address of a static server of a folder, as `python -m http.server` is."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *values: Any) -> None:
        """Requests are not printed."""


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line for each page."""
    lines = [
        "| page of | model | WebAssembly | all else | ready | first result | least cosine |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        sizes = [f"{row[name] / 1e6:.1f} MB" for name in ("model_bytes", "wasm_bytes", "other_bytes")]
        times = [f"{row[name]:.1f} s" for name in ("ready_s", "first_result_s")]
        name = f"{row['model']}, {'+'.join(row['languages']) or 'all languages'}, {row['target']}"
        lines.append(f"| {name} | {' | '.join([*sizes, *times])} | {row['cosine_with_facade_min']:.6f} |")
    return "\n".join(lines) + "\n"


def stated(page: Path) -> str:
    """What the guide has between its marks."""
    found = re.search(f"{_BEGIN}\n(.*?){_END}", page.read_text(encoding="utf-8"), re.DOTALL)
    if found is None:
        raise ValueError(f"{page} has no place for the table: {_BEGIN} … {_END}")
    return found[1]


def write_guide(page: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Puts the table into the guide, between its two marks."""
    text = page.read_text(encoding="utf-8")
    page.write_text(
        text.replace(f"{_BEGIN}\n{stated(page)}", f"{_BEGIN}\n\n{table(rows)}\n"), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
