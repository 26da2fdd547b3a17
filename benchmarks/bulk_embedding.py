"""`ringkas embed` over many short texts: its rate beside the engine's own, its memory, and killed at random.

    python benchmarks/bulk_embedding.py dist/onnx-int8 --count 1000000 --kills 10 --json FILE

The engine's own rate is `Encoder.encode` of some of the texts, in a process of its own. The rate of `embed`
counts from its first window to its last, so that loading is in neither. Processor time is told beside it, for
a machine that others use: that of the texts which the large run has more than the small one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from results_file import write_result
from short_texts import short_texts

OFFLINE = """
import json, sys, time
import ringkas
texts = open(sys.argv[2], encoding="utf-8").read().splitlines()[: int(sys.argv[3])]
with ringkas.load(sys.argv[1], threads=int(sys.argv[4]) or None) as encoder:
    encoder.encode(texts[:2000])
    started, spent = time.perf_counter(), time.process_time()
    encoder.encode(texts)
    took, spent = time.perf_counter() - started, time.process_time() - spent
print(json.dumps({"texts_per_s": len(texts) / took, "cpu_ms_per_text": 1e3 * spent / len(texts)}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=100_000, help="of the run whose memory is compared")
    parser.add_argument("--offline", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--killed-count", type=int, default=100_000, help="texts of the runs that are killed")
    parser.add_argument("--sentences", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    found: dict[str, Any] = {
        "artifact": options.artifact.name,
    }
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        text_file = folder / "texts.txt"
        for name, count in (("small", options.small), ("large", options.count)):
            text_file = folder / f"{name}.txt"
            text_file.write_text("\n".join(short_texts(count, options.sentences)), encoding="utf-8")
            found[name] = embed(options.artifact, text_file, folder / name, options.threads)
            print(name, found[name], flush=True)
        command = [sys.executable, "-c", OFFLINE, str(options.artifact), str(text_file)]
        command += [str(options.offline), str(options.threads)]
        found["offline"] = json.loads(_output(*command))
        found["of_offline"] = found["large"]["texts_per_s"] / found["offline"]["texts_per_s"]
        more = {name: found["large"][name] - found["small"][name] for name in ("texts", "cpu_s")}
        found["cpu_ms_per_text"] = 1e3 * more["cpu_s"] / more["texts"]
        found["of_offline_by_cpu"] = found["offline"]["cpu_ms_per_text"] / found["cpu_ms_per_text"]
        if options.kills:
            text_file.write_text("\n".join(short_texts(options.killed_count, options.sentences)), "utf-8")
            found["killed"] = kill(options.artifact, text_file, folder, options)
    write_result(options.json, found)
    print(
        json.dumps(
            {name: found.get(name) for name in ("offline", "of_offline", "of_offline_by_cpu", "killed")}
        )
    )


def embed(artifact: Path, text_file: Path, output: Path, threads: int) -> dict[str, Any]:
    """One whole run: its texts a second, its processor time, and the most memory that it held."""
    command = [*_command(artifact, text_file, output), *(["--threads", str(threads)] if threads else [])]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    first: float | None = None
    while process.poll() is None:
        if first is None and output.is_dir() and list(output.glob(".part-*")):
            first = time.perf_counter()
        last = time.perf_counter()
        time.sleep(0.01)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # its peak is the largest child's: the newest one's
    records = [json.loads(file.read_text()) for file in (output / "_ringkas").glob("part-*.json")]
    texts, tokens = (sum(record[name] for record in records) for name in ("vectors", "tokens"))
    assert process.returncode == 0
    assert first is not None
    return {
        "texts": texts, "tokens_per_text": tokens / texts, "seconds": last - first,
        "texts_per_s": texts / (last - first), "peak_mib": after.ru_maxrss / 1024,
        "cpu_s": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    }  # fmt: skip


def kill(artifact: Path, text_file: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Runs killed at random moments and resumed; whether the files are the uninterrupted run's."""
    kills, shards = options.kills, ("--shard-rows", str(max(1, options.killed_count // 20)))
    started = time.perf_counter()
    subprocess.run(
        [*_command(artifact, text_file, folder / "whole"), *shards], check=True, capture_output=True
    )
    took = time.perf_counter() - started
    chance, done = random.Random(1), 0
    output = folder / "killed"
    while done < kills:
        command = [*_command(artifact, text_file, output), *shards]
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0.1 * took, took))
        os.kill(process.pid, signal.SIGKILL)
        if process.wait() == 0:  # it was done before: from the start
            subprocess.run(["rm", "-r", str(output)], check=True)
            continue
        done += 1
    subprocess.run(command, check=True, capture_output=True)
    names = sorted(file.name for file in (folder / "whole").glob("part-*"))
    same = names == sorted(file.name for file in output.glob("part-*")) and all(
        (output / name).read_bytes() == (folder / "whole" / name).read_bytes() for name in names
    )
    return {"kills": done, "texts": len(text_file.read_text("utf-8").splitlines()), "same_bits": same}


def _command(artifact: Path, text_file: Path, output: Path) -> list[str]:
    command = [sys.executable, "-m", "ringkas", "embed", str(artifact), "--input", str(text_file)]
    return [*command, "--output", f"{output}/"]


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
