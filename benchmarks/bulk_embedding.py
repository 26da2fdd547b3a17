"""`ringkas embed` over many short texts: its rate beside the engine's own, its memory, and killed at random.

    python benchmarks/bulk_embedding.py rate dist/onnx-int8 --count 40000 --rounds 5 --json FILE
    python benchmarks/bulk_embedding.py whole dist/onnx-int8 --count 1000000 --kills 10 --json FILE
    python benchmarks/bulk_embedding.py ray dist/onnx-int8 --count 40000 --rounds 3 --json FILE

`rate` has two processes: `embed`, from its first window to its last, and `Encoder.encode` of the same
texts, so that loading is in neither. They take turns of two seconds, the other stopped meanwhile, since the
speed of a shared machine drifts within a minute. It wants a machine that does nothing else. `whole` embeds
a tenth of the texts, then all, compares the memory, and then kills and resumes until all are embedded
again: the files must be the same to the bit. `ray` interleaves the local run and two workers that Ray
starts on this machine, on Parquet in ten shards: from a command's first shard to its last, and whole, since
Ray takes seconds to start. All write into one file.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from results_file import made, write_result
from short_texts import short_texts

OFFLINE = """
import sys
import ringkas
texts = open(sys.argv[2], encoding="utf-8").read().splitlines()
with ringkas.load(sys.argv[1], threads=int(sys.argv[3]) or None) as encoder:
    encoder.encode(texts[:2000])
    open(sys.argv[4], "x").close()
    encoder.encode(texts)
"""
_TURN_SECONDS = 2.0
_TEN_SHARDS = 500_000  # texts that fill ten of the usual size


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("rate", "whole", "ray"))
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--sentences", type=Path)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    found = json.loads(options.json.read_text("utf-8")) if options.json.exists() else {}
    found.pop("made", None)  # each part has its own, and the file that of the last
    found["artifact"] = "/".join(options.artifact.resolve().parts[-2:])
    part = {"rate": rate, "whole": whole, "ray": ray}[options.part]
    with TemporaryDirectory() as scratch:
        found[options.part] = {"made": made(), **part(options, Path(scratch))}
    write_result(options.json, found)
    print(json.dumps(found[options.part]))


def rate(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """`embed` and the engine, in turns."""
    text_file = write_texts(folder / "texts.txt", options.count, options)
    rounds = []
    for number in range(options.rounds):
        output, warm = folder / f"{number}", folder / f"{number}.warm"
        offline = [sys.executable, "-c", OFFLINE, str(options.artifact), str(text_file), str(options.threads)]
        embedding = embed_command(options, text_file, output)
        seconds = in_turns(
            {"offline": [*offline, str(warm)], "embed": embedding},
            {"offline": warm.exists, "embed": lambda output=output: any(output.glob(".part-*"))},
        )
        rounds.append({f"{name}_texts_per_s": options.count / took for name, took in seconds.items()})
        print(rounds[-1], file=sys.stderr, flush=True)
    ratios = [one["embed_texts_per_s"] / one["offline_texts_per_s"] for one in rounds]
    return {"texts": options.count, "rounds": rounds, "ratios": ratios, "of_offline": median(ratios)}


def in_turns(commands: dict[str, list[str]], begun: dict[str, Callable[[], bool]]) -> dict[str, float]:
    """The seconds that each command ran from when it had `begun` to its end, all others stopped meanwhile."""
    processes, seconds = {}, dict.fromkeys(commands, 0.0)
    for name, command in commands.items():
        processes[name] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not begun[name]():
            assert processes[name].poll() is None
            time.sleep(0.002)
        processes[name].send_signal(signal.SIGSTOP)
    left = list(commands)
    while left:
        name = left.pop(0)
        started = time.perf_counter()
        processes[name].send_signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            processes[name].wait(_TURN_SECONDS)
        if processes[name].returncode is None:
            processes[name].send_signal(signal.SIGSTOP)
            left.append(name)
        seconds[name] += time.perf_counter() - started
        assert not processes[name].returncode
    return seconds


def whole(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Memory at a tenth and at all; then killed and resumed."""
    found: dict[str, Any] = {}
    for name, count in (("tenth", options.count // 10), ("all", options.count)):
        text_file = write_texts(folder / f"{name}.txt", count, options)
        found[name] = embed(embed_command(options, text_file, folder / name), folder / name)
        print(name, found[name], file=sys.stderr, flush=True)
    found["memory_all_to_tenth"] = found["all"]["peak_mib"] / found["tenth"]["peak_mib"]
    return found | {"killed": kill(options, text_file, folder / "all", found["all"]["seconds"])}


def ray(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The local run and Ray's, in turn; how far their vectors are apart."""
    text_file = folder / "texts.parquet"
    pq.write_table(pa.table({"text": list(short_texts(options.count, options.sentences))}), text_file)
    rounds: list[dict[str, Any]] = []
    largest = 0.0
    for number in range(options.rounds):
        found: dict[str, Any] = {}
        for name, more in (("local", []), ("ray", ["--ray", "local", "--ray-workers", "2"])):
            started = time.perf_counter()
            output = folder / f"{name}-{number}"
            found[name] = embed([*embed_command(options, text_file, output), *more], output)
            found[name]["whole_seconds"] = time.perf_counter() - started
        ours, rays = (vectors_of(folder / f"{name}-{number}") for name in ("local", "ray"))
        largest = max(largest, float(np.abs(ours - rays).max()))
        rounds.append(found)
        print(found, file=sys.stderr, flush=True)
    ratios = [one["ray"]["texts_per_s"] / one["local"]["texts_per_s"] for one in rounds]
    return {
        "texts": options.count, "rounds": rounds, "ratios": ratios, "of_local": median(ratios),
        "largest_difference": largest,
    }  # fmt: skip


def vectors_of(folder: Path) -> np.ndarray:
    """All vectors of a folder of shards, in order."""
    files = sorted(folder.glob("part-*.parquet"))
    return np.concatenate([np.stack(pq.read_table(file)["embedding"].to_numpy()) for file in files])


def write_texts(file: Path, count: int, options: argparse.Namespace) -> Path:
    file.write_text("\n".join(short_texts(count, options.sentences)), encoding="utf-8")
    return file


def embed(command: list[str], output: Path) -> dict[str, Any]:
    """One whole run: its texts a second, its processor time, and the most memory that it held."""
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


def kill(options: argparse.Namespace, text_file: Path, uninterrupted: Path, took: float) -> dict[str, Any]:
    """A run killed at random moments and resumed; whether its files are those of the uninterrupted run."""
    chance, done, output = random.Random(1), 0, uninterrupted.with_name("killed")
    command, moments = embed_command(options, text_file, output), list[int]()
    while done < options.kills:
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(0, 2 * took / options.kills))  # so that all fall into about one whole run
        os.kill(process.pid, signal.SIGKILL)
        if process.wait() == 0:  # it was done before: from the start
            shutil.rmtree(output)
            continue
        done += 1
        moments.append(len(list(output.glob("part-*"))))
    subprocess.run(command, check=True, capture_output=True)
    names = sorted(file.name for file in uninterrupted.glob("part-*"))
    same = names == sorted(file.name for file in output.glob("part-*")) and all(
        (output / name).read_bytes() == (uninterrupted / name).read_bytes() for name in names
    )
    return {"kills": done, "shards": len(names), "shards_when_killed": moments, "same_bits": same}


def embed_command(options: argparse.Namespace, text_file: Path, output: Path) -> list[str]:
    """`ringkas embed` into shards as they come, or into ten where shards are what is looked at."""
    command = [sys.executable, "-m", "ringkas", "embed", str(options.artifact), "--input", str(text_file)]
    command += ["--output", f"{output}/"]
    if options.part != "rate" and options.count < _TEN_SHARDS:
        command += ["--shard-rows", str(max(1, options.count // 10))]
    return [*command, *(["--threads", str(options.threads)] if options.threads else [])]


if __name__ == "__main__":
    main()
