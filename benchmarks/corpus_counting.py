"""How fast a corpus is counted, beside the tokenizer's own parallel batch over the same lines.

    python benchmarks/corpus_counting.py [--shared FOLDER] [--megabytes 24] [--text en=FILE] [--out FILE]

Without --text the corpora are drawn from word lists by frequency (Korean words with particles), so their
words repeat as in running text. Each measurement has a process of its own, and the two ways take turns.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from results_file import write_result

from ringkas.export.vocabulary.counting import count_corpus, read_lines
from ringkas.export.vocabulary.kinds import vocabulary_size
from ringkas.export.vocabulary.languages import words_of
from ringkas.export.vocabulary.segment import Segmenter

LANGUAGES = ("en", "id", "ko")
WORDS_A_LINE = 20
# The plain way has its own speed whatever the size: it gets a part of the lines, so that it ends soon.
PLAIN_MEGABYTES = 4
PARTICLES = ("", "", "은", "는", "이", "가", "을", "를", "의", "에", "에서", "으로", "도", "만", "까지")
BATCH = 8192


def main() -> None:
    root = Path(__file__).resolve().parent
    shared = Path(os.environ.get("RINGKAS_SHARED", root.parents[1] / "shared"))
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shared", type=Path, default=shared / "data", help="holds xlmr/tokenizer.json.gz")
    parser.add_argument("--megabytes", type=int, default=24, help="of each corpus that is drawn")
    parser.add_argument("--text", action="append", default=[], metavar="NAME=FILE", help="real text instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=root / "results" / "vocabulary" / "counting.json")
    parser.add_argument("--child", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.shared, options.child[0], Path(options.child[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(path) for name, path in (text.split("=", 1) for text in options.text)}
        files = files or {tag: draw(tag, options.megabytes, Path(folder)) for tag in LANGUAGES}
        report = {name: compare(file, options, Path(folder)) for name, file in files.items()}
    write_result(options.out, report)
    print(json.dumps(report, indent=1))


def draw(language: str, megabytes: int, folder: Path) -> Path:
    """A file of lines of words drawn by their frequency."""
    words = words_of(language)
    chance = np.random.default_rng(0)
    listed, weights = np.array(list(words)), np.array(list(words.values()))
    file, size = folder / f"{language}.txt", 0
    with file.open("w", encoding="utf-8") as stream:
        while size < megabytes * 1_000_000:
            drawn = chance.choice(listed, (1000, WORDS_A_LINE), p=weights / weights.sum())
            if language == "ko":
                drawn = np.char.add(drawn, chance.choice(PARTICLES, drawn.shape))
            lines = "".join(" ".join(line).capitalize() + ".\n" for line in drawn.tolist())
            size += len(lines.encode("utf-8"))
            stream.write(lines)
    return file


def compare(file: Path, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Medians over the rounds for one corpus."""
    some = folder / f"{file.name}.part"
    some.write_bytes(b"\n".join(part(file, PLAIN_MEGABYTES * 1_000_000)))
    runs: dict[str, list[dict[str, float]]] = {"count": [], "plain": []}
    for _ in range(options.rounds):
        for way, input in (("count", file), ("plain", some)):
            command = [sys.executable, __file__, "--shared", str(options.shared), "--child", way, str(input)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[way].append(json.loads(done.stdout))
    speeds = {way: [run["megabytes_a_second"] for run in listed] for way, listed in runs.items()}
    ratios = [count / plain for count, plain in zip(speeds["count"], speeds["plain"], strict=True)]
    return {
        "megabytes": round(file.stat().st_size / 1e6, 1),
        "count": {key: float(np.median([run[key] for run in runs["count"]])) for key in runs["count"][0]},
        "plain": {key: float(np.median([run[key] for run in runs["plain"]])) for key in runs["plain"][0]},
        "ratio": round(float(np.median(ratios)), 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def part(file: Path, size: int) -> Iterator[bytes]:
    """The lines of a file up to `size` bytes."""
    with file.open("rb") as stream:
        yield from stream.read(size).split(b"\n")[:-1] or [stream.read()]


def measure(shared: Path, way: str, file: Path) -> dict[str, float]:
    """Speed in MB a second of wall and of CPU time, and the peak of memory; the tokenizer's load left out."""
    with gzip.open(shared / "xlmr" / "tokenizer.json.gz") as stream:
        document = json.load(stream)
    segmenter = Segmenter(document)
    size = vocabulary_size(document)
    next(segmenter.ids(["warm"]))
    wall, cpu = time.perf_counter(), time.process_time()
    if way == "count":
        counts = count_corpus([file], segmenter, size).counts
    else:
        counts = np.zeros(1)
        for ids in segmenter.ids(read_lines(file)):
            counts += len(ids)
    assert counts.sum() > 0
    seconds, busy = time.perf_counter() - wall, time.process_time() - cpu
    megabytes = file.stat().st_size / 1e6
    return {
        "megabytes_a_second": round(megabytes / seconds, 2),
        "megabytes_a_cpu_second": round(megabytes / busy, 2),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


if __name__ == "__main__":
    main()
