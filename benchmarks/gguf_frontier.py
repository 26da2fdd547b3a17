"""Size, fidelity and speed of every GGUF target of a checkpoint, and the frontier drawn.

    python benchmarks/gguf_frontier.py demo sentences.txt --out benchmarks/results/gguf
    python benchmarks/gguf_frontier.py MODEL en.txt ko.txt --strings
    python benchmarks/gguf_frontier.py demo sentences.txt --importance

Each target is written and measured in a process of its own: engines in one process distort each other. Times
are taken in rounds in which all targets take turns, so that other work on the machine meets all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from llama_strings import compare_strings
from results_file import made_line, write_result

from ringkas.artifact import Artifact, Manifest, Source
from ringkas.checkpoint import Checkpoint, open_checkpoint
from ringkas.export.to_gguf import GGUF_TARGETS, write_gguf
from ringkas.export.to_gguf.architecture import architecture_of
from ringkas.export.to_gguf.llama_quantize import llama_quantize
from ringkas.quantize.for_gguf.importance import measure_importance
from ringkas.runtimes.encoder import Encoder, load_reference_encoder
from ringkas.runtimes.engines.llama_engine import LlamaEngine
from ringkas.runtimes.reference import load_reference
from ringkas.tokens import TextTokenizer

ROUNDS = 5
REPEATS = 3  # in a round, of which the best counts
REFERENCE = "reference.npy"
TIMED_TEXTS = 64
LEAST_LOSS = 1e-5  # the cosines are written with five digits

# What --importance compares: llama.cpp's rounding with and without an importance matrix; and our own.
BY_LLAMA_CPP = ("gguf-iq4_nl", "gguf-q4_k_m", "gguf-q4_0", "gguf-q4_1", "gguf-q5_0")
COMPENSATED = ("gguf-iq4_nl-gptq", "gguf-q5_0-gptq")


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
    parser.add_argument("--importance", action="store_true", help="what an importance matrix is worth")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of timing, all targets in turn")
    for hidden in ("--one", "--time"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.strings:
        report_strings(options)
    elif options.importance:
        report_importance(options)
    elif options.one:
        print(json.dumps(measure(options)))
    elif options.time:
        print(json.dumps(measure_time(options)))
    else:
        frontier(options)


def frontier(options: argparse.Namespace) -> None:
    """Measures every target in a child process and writes frontier.json, .md and .png."""
    rows: dict[str, dict[str, Any]] = {}
    times: dict[str, list[dict[str, float]]] = {target: [] for target in options.targets}
    with tempfile.TemporaryDirectory() as folder:
        say("the reference")
        with load_reference_encoder(options.model, threads=options.threads) as encoder:
            np.save(Path(folder) / REFERENCE, encoder.encode(read(options.texts)))
        for number, target in enumerate(options.targets, 1):
            say(f"{target} ({number} of {len(options.targets)})")
            rows[target] = child(options, "--one", target, folder)
        for number in range(options.rounds):
            say(f"round {number + 1} of {options.rounds}")
            for target in options.targets:
                times[target].append(child(options, "--time", target, folder))
    for target, listed in times.items():
        rows[target] |= {
            name: round(float(np.median([one[name] for one in listed])), 2) for name in listed[0]
        }
    options.out.mkdir(parents=True, exist_ok=True)
    write_result(options.out / "frontier.json", list(rows.values()))
    (options.out / "frontier.md").write_text(f"{table(list(rows.values()))}\n{made_line()}\n")
    draw(list(rows.values()), options.out / "frontier.png")
    say(table(list(rows.values())))


def child(options: argparse.Namespace, what: str, target: str, folder: str) -> dict[str, Any]:
    """What this script prints when it runs alone for one target."""
    command = [sys.executable, __file__, options.model, *map(str, options.texts), what, target]
    command += ["--threads", str(options.threads), "--folder", folder]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Writes one target; its size with tokenizer and its cosines with the reference."""
    texts, folder = read(options.texts), options.folder / options.one
    folder.mkdir()
    artifact = write(options.model, options.one, folder)
    with open_encoder(options.model, artifact, options.threads) as encoder:
        vectors = encoder.encode(texts)
    cosines = (vectors * np.load(options.folder / REFERENCE)).sum(1)
    assert len(cosines) == len(texts) > 0
    return {
        "target": options.one,
        "megabytes": round(artifact.model_path.stat().st_size / 1e6, 2),
        "cosine_min": round(float(cosines.min()), 5),
        "cosine_mean": round(float(cosines.mean()), 5),
        "texts": len(texts),
        "threads": options.threads,
    }


def measure_time(options: argparse.Namespace) -> dict[str, float]:
    """Milliseconds for 64 texts at once, for the same one by one, and for one text; best of a few."""
    texts = read(options.texts)[:TIMED_TEXTS]
    (file,) = (options.folder / options.time).glob("*.gguf")
    artifact = artifact_of(open_checkpoint(options.model), options.time, file)
    with open_encoder(options.model, artifact, options.threads) as encoder:
        return {
            "milliseconds_64_texts": 1e3 * best(lambda: encoder.encode(texts)),
            "milliseconds_64_one_by_one": 1e3 * best(lambda: [encoder.encode(text) for text in texts]),
            "milliseconds_1_text": 1e3 * best(lambda: encoder.encode(texts[0])),
            "load_average": os.getloadavg()[0],
        }


@contextmanager
def open_encoder(model: str, artifact: Artifact, threads: int) -> Iterator[Encoder]:
    checkpoint = open_checkpoint(model)
    with LlamaEngine(artifact, threads) as engine:
        yield Encoder(checkpoint.spec, TextTokenizer(checkpoint.path, checkpoint.spec), engine)


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
    (options.out / "strings.md").write_text("\n".join([*lines, "", made_line()]) + "\n")
    print("\n".join(lines))


def report_importance(options: argparse.Namespace) -> None:
    """Cosines of llama.cpp's types without an importance matrix, with it, and with its channels shuffled."""
    checkpoint, texts = open_checkpoint(options.model), read(options.texts)
    say("the reference and the importance matrix")
    with load_reference_encoder(options.model, threads=options.threads) as encoder:
        reference = encoder.encode(texts)
    measured = measure_importance(checkpoint, load_reference(checkpoint))
    architecture = architecture_of(checkpoint)
    importance = {architecture.gguf_name(name): value for name, value in measured.by_tensor.items()}
    chance = np.random.default_rng(0)
    shuffled = {name: chance.permutation(value) for name, value in importance.items()}
    lines = [
        "| target | MB | importance | cosine min | mean | texts nearer than without |",
        "|---|---|---|---|---|---|",
    ]

    def add(artifact: Artifact, name: str, plain: Any) -> Any:
        with LlamaEngine(artifact, options.threads) as engine:
            encoder = Encoder(checkpoint.spec, TextTokenizer(checkpoint.path, checkpoint.spec), engine)
            cosines = (encoder.encode(texts) * reference).sum(1)
        nearer = "" if plain is None else f"{100 * (cosines > plain).mean():.0f} %"
        lines.append(
            f"| {artifact.manifest.target} | {artifact.model_path.stat().st_size / 1e6:.2f} | {name} "
            f"| {cosines.min():.5f} | {cosines.mean():.5f} | {nearer} |"
        )
        say(lines[-1])
        return cosines

    with tempfile.TemporaryDirectory() as folder:
        floats = write(options.model, "gguf-f32", Path(folder)).model_path
        for target in BY_LLAMA_CPP:
            plain = None
            for name, matrix in {"none": None, "measured": importance, "shuffled": shuffled}.items():
                file = Path(folder) / "rounded.gguf"
                llama_quantize(floats, file, GGUF_TARGETS[target], matrix)
                cosines = add(artifact_of(checkpoint, target, file), name, plain)
                plain = cosines if plain is None else plain
        for target in COMPENSATED:
            add(write(options.model, target, Path(folder)), "compensated errors", None)
    texts_named = " ".join(file.name for file in options.texts)
    heading = [
        f"`python benchmarks/gguf_frontier.py {options.model} {texts_named} --importance`:",
        f"{len(texts):,} texts. Importance is the mean square of each input of each linear layer over",
        f"{measured.report['tokens']:,} tokens in {measured.report['sentences']} built-in calibration texts;",
        "the token table has none. Shuffled: the same numbers at the wrong inputs.",
        "",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "importance.md").write_text("\n".join([*heading, *lines, "", made_line()]) + "\n")


def write(model: str, target: str, folder: Path) -> Artifact:
    checkpoint = open_checkpoint(model)
    return artifact_of(checkpoint, target, folder / write_gguf(checkpoint, target, folder).model_file)


def artifact_of(checkpoint: Checkpoint, target: str, file: Path) -> Artifact:
    (file.parent / "tokenizer.json").write_bytes((checkpoint.path / "tokenizer.json").read_bytes())
    manifest = Manifest(
        name=checkpoint.name,
        target=target,
        engine="llama.cpp",
        precision=GGUF_TARGETS[target].precision,
        source=Source(checkpoint.source),
        encoding=checkpoint.spec,
        model_file=file.name,
    )
    return Artifact(file.parent, manifest)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def read(files: list[Path]) -> list[str]:
    return [line for file in files for line in file.read_text("utf-8").splitlines()]


def best(run: Any) -> float:
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times)


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| target | MB | cosine min | mean | 64 texts, ms | one by one, ms | 1 text, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['target']} | {row['megabytes']} | {row['cosine_min']} | {row['cosine_mean']} "
            f"| {row['milliseconds_64_texts']} | {row['milliseconds_64_one_by_one']} "
            f"| {row['milliseconds_1_text']} |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]], file: Path) -> None:
    """Least and mean cosine over size as a PNG; the scale of the cosines is logarithmic in what is lost."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    sizes = np.array([row["megabytes"] for row in rows])
    least, mean = (np.array([lost(row[key]) for row in rows]) for key in ("cosine_min", "cosine_mean"))
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set(xscale="log", yscale="log", xlabel="model file, MB (with its tokenizer)")
    axes.set_ylabel("cosine with the reference (better above)")
    axes.set_title(f"GGUF targets: size and fidelity, {rows[0]['texts']:,} texts")
    axes.vlines(sizes, mean, least, color="0.8", linewidth=1, zorder=1)
    front: list[int] = []
    for position in np.lexsort((least, sizes)):
        if not front or least[position] < least[front[-1]]:
            front.append(int(position))
    axes.plot(sizes[front], least[front], color="tab:blue", linewidth=1, alpha=0.5, label="frontier")
    axes.scatter(sizes, least, color="tab:blue", zorder=3, label="minimum")
    axes.scatter(sizes, mean, edgecolor="tab:orange", facecolor="white", zorder=2, label="mean")
    axes.invert_yaxis()
    axes.set_xlim(sizes.min() * 0.94, sizes.max() * 1.6)
    ticks = [0.95, 0.96, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9998, 0.9999, 0.99999]
    axes.set_yticks([lost(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
    axes.yaxis.minorticks_off()
    marks = [size for size in (12, 14, 16, 18, 20, 25, 30, 40, 50, 70, 100) if size < 1.6 * sizes.max()]
    axes.set_xticks(marks, [str(size) for size in marks])
    axes.xaxis.minorticks_off()
    label(axes, rows, figure.dpi)
    axes.grid(alpha=0.25)
    axes.legend(loc="lower right")
    figure.savefig(file, dpi=120)


def label(axes: Any, rows: list[dict[str, Any]], dpi: float) -> None:
    """Names the minima: targets of like size in one column to their right, in the order of the points."""
    axes.figure.draw_without_rendering()  # settles what a data point is in pixels
    groups: list[list[dict[str, Any]]] = []
    for row in sorted(rows, key=lambda row: float(row["megabytes"])):
        if not groups or row["megabytes"] > 1.15 * groups[-1][-1]["megabytes"]:
            groups.append([])
        groups[-1].append(row)
    for group in groups:
        column = axes.transData.transform((group[-1]["megabytes"], 1))[0] + 0.25 * dpi
        free = np.inf
        for row in sorted(group, key=lambda row: -float(row["cosine_min"])):
            point = (row["megabytes"], lost(row["cosine_min"]))
            free = min(free, axes.transData.transform(point)[1])
            axes.annotate(
                f"{row['target'].removeprefix('gguf-')}  {row['megabytes']:.1f} MB  {row['cosine_min']:.5f}",
                point,
                xytext=axes.transData.inverted().transform((column, free)),
                fontsize=8.5,
                va="center",
                arrowprops={"arrowstyle": "-", "color": "tab:blue", "linewidth": 0.5, "relpos": (0, 0.5)},
            )
            free -= 0.17 * dpi


def lost(cosine: float) -> float:
    return max(1 - cosine, LEAST_LOSS)


if __name__ == "__main__":
    main()
