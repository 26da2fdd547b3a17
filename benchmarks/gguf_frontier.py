"""Size, fidelity and speed of every GGUF target of a checkpoint, and the frontier drawn.

    python benchmarks/gguf_frontier.py demo sentences.txt --out benchmarks/results/gguf
    python benchmarks/gguf_frontier.py MODEL en.txt ko.txt --strings

Each target is written and measured in a process of its own: engines in one process distort each other.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from ringkas.artifact import Artifact, Manifest, Source
from ringkas.checkpoint import open_checkpoint
from ringkas.export.gguf_format import GGUF_TARGETS, write_gguf
from ringkas.runtimes.encoder import Encoder, load_reference_encoder
from ringkas.runtimes.llama import LlamaEngine
from ringkas.runtimes.llama_strings import compare_strings
from ringkas.tokens import TextTokenizer

ROUNDS = 3
TIMED_TEXTS = 64


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+", type=Path, help="files of one text a line")
    parser.add_argument("--targets", nargs="*", default=list(GGUF_TARGETS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/gguf"))
    parser.add_argument("--strings", action="store_true", help="how llama.cpp segments the texts, by file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--reference", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.strings:
        report_strings(options)
    elif options.one:
        print(json.dumps(measure(options)))
    else:
        frontier(options)


def frontier(options: argparse.Namespace) -> None:
    """Measures every target in a child process and writes frontier.json, .md and .svg."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference.npy"
        with load_reference_encoder(options.model, threads=options.threads) as encoder:
            np.save(reference, encoder.encode(read(options.texts)))
        for target in options.targets:
            command = [sys.executable, __file__, options.model, *map(str, options.texts), "--one", target]
            command += ["--threads", str(options.threads), "--reference", str(reference)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(table(rows[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "frontier.json").write_text(json.dumps(rows, indent=1) + "\n")
    (options.out / "frontier.md").write_text(table(rows))
    draw(rows, options.out / "frontier.svg")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """One target: size with tokenizer, cosines with the reference, seconds for 64 texts and for one."""
    checkpoint = open_checkpoint(options.model)
    texts = read(options.texts)
    with tempfile.TemporaryDirectory() as folder:
        artifact = write(options.model, options.one, Path(folder))
        size = artifact.model_path.stat().st_size
        with LlamaEngine(artifact, options.threads) as engine:
            encoder = Encoder(checkpoint.spec, TextTokenizer(checkpoint.path, checkpoint.spec), engine)
            vectors = encoder.encode(texts)
            many = best(lambda: encoder.encode(texts[:TIMED_TEXTS]))
            single = best(lambda: encoder.encode(texts[0]))
    reference = np.load(options.reference)
    cosines = (vectors * reference).sum(1)
    assert len(cosines) == len(texts) > 0
    return {
        "target": options.one,
        "megabytes": round(size / 1e6, 2),
        "cosine_min": round(float(cosines.min()), 5),
        "cosine_mean": round(float(cosines.mean()), 5),
        "texts": len(texts),
        "milliseconds_64_texts": round(1e3 * many, 1),
        "milliseconds_1_text": round(1e3 * single, 2),
        "threads": options.threads,
        "load_average": round(os.getloadavg()[0], 1),
    }


def report_strings(options: argparse.Namespace) -> None:
    """By file: how many texts llama.cpp segments as the reference does, and the cosines of strings."""
    with tempfile.TemporaryDirectory() as folder:
        artifact = write(options.model, "gguf-q8_0", Path(folder))
        groups = {file.stem: file.read_text("utf-8").splitlines() for file in options.texts}
        reports = compare_strings(artifact, groups, options.threads)
    lines = ["| texts | same ids | cosine min | mean | first that differs |", "|---|---|---|---|---|"]
    lines += [
        f"| {name} | {one.same} / {one.texts} | {one.cosine_min:.4f} | {one.cosine_mean:.5f} "
        f"| {one.different} |"
        for name, one in reports.items()
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "strings.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def write(model: str, target: str, folder: Path) -> Artifact:
    checkpoint = open_checkpoint(model)
    (folder / "tokenizer.json").write_bytes((checkpoint.path / "tokenizer.json").read_bytes())
    manifest = Manifest(
        name=checkpoint.name,
        target=target,
        engine="llama.cpp",
        precision=GGUF_TARGETS[target].precision,
        source=Source(checkpoint.source),
        encoding=checkpoint.spec,
        model_file=write_gguf(checkpoint, target, folder).model_file,
    )
    return Artifact(folder, manifest)


def read(files: list[Path]) -> list[str]:
    return [line for file in files for line in file.read_text("utf-8").splitlines()]


def best(run: Any) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def table(rows: list[dict[str, Any]]) -> str:
    lines = ["| target | MB | cosine min | mean | 64 texts, ms | 1 text, ms |", "|---|---|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row['target']} | {row['megabytes']} | {row['cosine_min']} | {row['cosine_mean']} "
            f"| {row['milliseconds_64_texts']} | {row['milliseconds_1_text']} |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Least cosine over size, 1 at the top, on a logarithmic scale of what is lost."""
    width, height, edge = 720, 420, 60
    sizes = np.array([row["megabytes"] for row in rows])
    lost = np.log10(np.maximum(1 - np.array([row["cosine_min"] for row in rows]), 1e-6))
    x = edge + (sizes - sizes.min()) / max(np.ptp(sizes), 1e-9) * (width - 3 * edge)
    y = edge + (lost - lost.min()) / max(np.ptp(lost), 1e-9) * (height - 2 * edge)
    marks = [
        f'<circle cx="{a:.0f}" cy="{b:.0f}" r="4"/>'
        f'<text x="{a + 7:.0f}" y="{b + 4:.0f}">{row["target"].removeprefix("gguf-")} '
        f"{row['megabytes']} MB {row['cosine_min']:.4f}</text>"
        for a, b, row in zip(x, y, rows, strict=True)
    ]
    front, least = [], np.inf
    for position in np.argsort(sizes, kind="stable"):
        if lost[position] < least:
            front.append(f"{x[position]:.0f},{y[position]:.0f}")
            least = lost[position]
    file.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'font-size="11"><rect width="100%" height="100%" fill="white"/>'
        f'<polyline points="{" ".join(front)}" fill="none" stroke="#888"/>{"".join(marks)}'
        f'<text x="{edge}" y="24">least cosine with the reference (better above) by file size</text></svg>\n'
    )


if __name__ == "__main__":
    main()
