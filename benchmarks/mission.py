"""Every table on the mission's own model: multilingual-e5-small, real to within 4-bit rounding (`demo-e5`).

    python benchmarks/mission.py SIB200                      # all of it, into benchmarks/results/mission/
    python benchmarks/mission.py SIB200 --part retrieval     # one part: build, parity, retrieval, load, speed

SIB200 holds the same 1,004 sentences in each of 12 languages, one file each, and `topics.txt`. Artifacts and
vectors are kept in --work and made only where they are missing, so a run that was stopped goes on. Weights
that lie on a 4-bit grid flatter every further rounding to 4 bits: such rows are marked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from results_file import made_line, write_result

MODEL = "demo-e5"
LANGUAGES = ("en", "zh", "ko", "th", "vi", "id", "ms", "fil", "my", "km", "lo", "ta")
PROMPT = "query"  # on both sides, as E5's authors advise where queries and documents are alike
RESULTS = Path(__file__).resolve().parent / "results" / "mission"
FLATTERED = "flattered: the weights lie on a 4-bit grid"
_RESAMPLES, _SEED = 1000, 20260101

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Vocabulary:
    """One vocabulary and what is built of it."""

    name: str
    languages: tuple[str, ...]
    max_tokens: int | None
    targets: tuple[str, ...]


VOCABULARIES = (
    Vocabulary(
        "full",
        (),
        None,
        (
            "onnx-fp32",
            "onnx-int8",
            "onnx-int4",
            "gguf-q8_0",
            "gguf-q4_k_m",
            "tensorrt-rtx-fp16",
            "tensorrt-rtx-int8",
        ),
    ),
    Vocabulary("ko-en-default", ("ko", "en"), None, ("onnx-int8",)),
    Vocabulary("ko-en", ("ko", "en"), 41_348, ("onnx-fp32", "onnx-int8", "onnx-int4", "gguf-q8_0")),
    Vocabulary(
        "sea-lion", ("en", "zh", "th", "vi", "id", "ms", "fil", "my", "km", "lo", "ta"), None, ("onnx-int8",)
    ),
)
# What is searched with; plans need a GPU, and the rest follow from these.
SEARCHED = (
    "full/onnx-int8",
    "ko-en-default/onnx-int8",
    "ko-en/onnx-int8",
    "full/onnx-int4",
    "full/gguf-q8_0",
    "sea-lion/onnx-int8",
)
TIMED = ("full/onnx-fp32", "full/onnx-int8", "full/onnx-int4", "full/gguf-q8_0", "ko-en/onnx-int8")
TIMED_LANGUAGES = ("en", "ko", "th")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sib200", type=Path)
    parser.add_argument("--part", action="append", choices=list(PARTS))
    parser.add_argument("--work", type=Path, default=Path("dist/mission"))
    parser.add_argument("--only", action="append", metavar="full/onnx-int8", help="Of the artifacts, these.")
    parser.add_argument("--every", type=int, default=1, help="Search among every so many of the sentences.")
    parser.add_argument("--rounds", type=int, default=3, help="of the timings")
    options = parser.parse_args()
    RESULTS.mkdir(parents=True, exist_ok=True)
    for part in options.part or PARTS:
        print(f"== {part}", file=sys.stderr, flush=True)
        if part == "speed":  # each engine has a process of its own, and waits as it does by itself
            os.environ.pop("OMP_WAIT_POLICY", None)
        else:
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        result, table = PARTS[part](options)
        if result is not None:
            sampled = f" --every {options.every}" if part == "retrieval" and options.every > 1 else ""
            command = f"python benchmarks/mission.py SIB200 --part {part}{sampled}"
            write_result(RESULTS / f"{part}.json", {"command": command, "model": MODEL, "result": result})
            about = f"`{command}`, on `{MODEL}`: multilingual-e5-small to within 4-bit rounding."
            (RESULTS / f"{part}.md").write_text(f"{about}\n\n{table}\n{made_line()}\n", "utf-8")
            print(table)


def artifacts(options: Any, wanted: Sequence[str] | None = None) -> dict[str, Path]:
    """The artifact folders that are there, by name, in the order of the table."""
    names = [f"{one.name}/{target}" for one in VOCABULARIES for target in one.targets]
    names = [name for name in wanted or names if not options.only or name in options.only]
    return {name: options.work / name for name in names if (options.work / name / "ringkas.json").is_file()}


# Build


def build(options: Any) -> tuple[Any, str]:
    """Makes what is missing, each in a process of its own, and keeps how long it took and how much memory."""
    log = options.work / "built.json"
    taken = json.loads(log.read_text()) if log.is_file() else {}
    for one in VOCABULARIES:
        for target in one.targets:
            name = f"{one.name}/{target}"
            if (options.work / name).is_dir() or (options.only and name not in options.only):
                continue
            command = [sys.executable, "-m", "ringkas", "build", MODEL, "--target", target]
            command += ["--out", str(options.work / one.name)]
            command += ["--languages", ",".join(one.languages)] if one.languages else []
            command += ["--max-tokens", str(one.max_tokens)] if one.max_tokens else []
            started = time.perf_counter()
            done = subprocess.run(command, check=False, env=os.environ | {"RINGKAS_CACHE_MB": "0"})
            if done.returncode in (0, 1):
                taken[name] = round(time.perf_counter() - started, 1)
                log.write_text(json.dumps(taken, indent=1))
    lines = ["| artifact | build, seconds (the machine was shared) |", "|---|---:|"]
    lines += [f"| {name} | {seconds} |" for name, seconds in taken.items()]
    return taken, "\n".join(lines) + "\n"


# Parity, sizes, certificates


def parity(options: Any) -> tuple[Any, str]:
    """What each artifact's own report and certificate say: sizes, cosines by language, the vocabulary."""
    from ringkas.artifact import open_artifact

    found: dict[str, Any] = {}
    for name, path in artifacts(options).items():
        artifact = open_artifact(path)
        report = json.loads((path / "parity.json").read_text("utf-8"))
        found[name] = {
            "bytes": artifact.size,
            "model_bytes": artifact.manifest.files[artifact.manifest.model_file].size,
            "note": FLATTERED if _is_four_bit(name) else "",
            "vocabulary": artifact.manifest.vocabulary,
            "report": report,
        }
    return found, "".join(
        table(found) for table in (sizes_table, language_table, search_table, certificate_table)
    )


def sizes_table(found: dict[str, Any]) -> str:
    lines = ["| artifact | MB | cosine min | mean | centred min | top-10 | texts | judged by | parity |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|---|---|")
    for name, one in found.items():
        report = one["report"]
        centred = min(group["centred_min"] for group in report["groups"])
        lines.append(
            f"| {_marked(name)} | {one['bytes'] / 1e6:.1f} | {report['cosine_min']:.5f} | "
            f"{report['cosine_mean']:.5f} | {centred:.5f} | {report['top10_overlap']:.3f} | "
            f"{report['texts']} | {report['engine']} | {'holds' if report['passed'] else 'FALLS SHORT'} |"
        )
    return "\n".join(lines) + f"\n\n\\* {FLATTERED}.\n\n"


def language_table(found: dict[str, Any]) -> str:
    """Cosine after subtracting the mean vector, least and mean, by language."""
    groups = list(
        dict.fromkeys(group["group"] for one in found.values() for group in one["report"]["groups"])
    )
    heads = ["| centred cosine, min / mean | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups)]
    lines = []
    for name, one in found.items():
        by_name = {group["group"]: group for group in one["report"]["groups"]}
        cells = [
            f"{by_name[group]['centred_min']:.4f} / {by_name[group]['centred_mean']:.4f}"
            if group in by_name
            else ""
            for group in groups
        ]
        lines.append(f"| {_marked(name)} | " + " | ".join(cells) + " |")
    return "\n".join([*heads, *lines]) + "\n\n"


def search_table(found: dict[str, Any]) -> str:
    """nDCG@10 on the built-in questions, by language; the 95% interval of the difference behind it."""
    rows = {
        name: {row["language"]: row for row in one["report"].get("search", ())} for name, one in found.items()
    }
    languages = list(dict.fromkeys(language for one in rows.values() for language in one))
    heads = [
        "| nDCG@10 of 20 questions, reference, artifact (95% of the difference) | "
        + " | ".join(languages)
        + " |"
    ]
    heads.append("|---|" + "---|" * len(languages))
    lines = []
    for name, by_language in rows.items():
        cells = [
            _search_cell(by_language[language]) if language in by_language else "" for language in languages
        ]
        lines.append(f"| {_marked(name)} | " + " | ".join(cells) + " |")
    return "\n".join([*heads, *lines]) + "\n\n"


def _search_cell(row: dict[str, Any]) -> str:
    reference, own = row["reference_ndcg_at_10"], row["ndcg_at_10"]
    return f"{reference:.3f}, {own:.3f} ({row['low']:+.3f} to {row['high']:+.3f})"


def certificate_table(found: dict[str, Any]) -> str:
    if all(one["vocabulary"] is None for one in found.values()):
        return ""
    lines = [
        "| vocabulary | rows | language | judged on | segmented as before | tokens kept | "
        "cosine where changed, min / mean (texts) |"
    ]
    lines.append("|---|---:|---|---|---:|---:|---|")
    seen = set()
    for name, one in found.items():
        vocabulary, certificate = name.partition("/")[0], one["vocabulary"]
        if certificate is None or vocabulary in seen:
            continue
        seen.add(vocabulary)
        for language, report in certificate["by_language"].items():
            changed = report.get("changed")
            cosines = (
                f"{changed['minimum']:.3f} / {changed['mean']:.4f} ({changed['texts']})" if changed else ""
            )
            lines.append(
                f"| {vocabulary} | {certificate['rows']['after']:.0f} | {language} | "
                f"{report['texts']} texts | {report['identical']:.1%} | {report['tokens_kept']:.2%} | "
                f"{cosines} |"
            )
    return "\n".join(lines) + "\n"


# Retrieval


@dataclass(frozen=True)
class Scores:
    """nDCG@10 of every sentence of a language, the language's mean cosines with the reference beside it.

    `outward`: it finds its translation in each other language; `inward`: its translations find it;
    `topic`: it finds the sentences of its topic in its own language.
    """

    outward: Floats
    inward: Floats
    topic: Floats

    @property
    def all(self) -> Floats:
        return np.mean([self.outward, self.inward, self.topic], axis=0)


def retrieval(options: Any) -> tuple[Any, str]:
    """Search among all sentences in every direction, beside the PyTorch reference, with paired intervals."""
    topics = np.array((options.sib200 / "topics.txt").read_text("utf-8").splitlines()[:: options.every])
    found: dict[str, Any] = {}
    for name, path in artifacts(options, SEARCHED).items():
        manifest = json.loads((path / "ringkas.json").read_text("utf-8"))
        spoken = [language for language in LANGUAGES if language in (manifest["languages"] or LANGUAGES)]
        reference = encode_all(options, spoken, "reference", None)
        own = encode_all(options, spoken, name, path)
        base, mine = search(reference, topics), search(own, topics)
        found[name] = {
            "note": FLATTERED if _is_four_bit(name) else "",
            "by_language": {
                language: compare(base[language], mine[language])
                | cosines(reference[language], own[language])
                for language in spoken
            },
        }
    return found, retrieval_table(found)


def encode_all(options: Any, languages: Sequence[str], name: str, path: Path | None) -> dict[str, Vectors]:
    """The vectors of every sentence by language, kept in --work under the model file's own checksum."""
    key = name.replace("/", "+") if path is None else f"{name.replace('/', '+')}-{_model_hash(path)[:12]}"
    folder = options.work / f"vectors-{options.every}" / key
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / f"{language}.npy").is_file() for language in languages):
        from ringkas import load, load_reference_encoder

        with load_reference_encoder(MODEL) if path is None else load(path, allow_failed=True) as encoder:
            for language in languages:
                if (folder / f"{language}.npy").is_file():
                    continue
                print(f"{name}: {language}", file=sys.stderr, flush=True)
                np.save(
                    folder / f"{language}.npy", encoder.encode(sentences(options, language), prompt=PROMPT)
                )
    return {language: np.load(folder / f"{language}.npy") for language in languages}


def sentences(options: Any, language: str) -> list[str]:
    return (options.sib200 / f"{language}.txt").read_text("utf-8").splitlines()[:: options.every]


def search(vectors: dict[str, Vectors], topics: Any) -> dict[str, Scores]:
    """The scores of every language; translations are looked for among the languages of `vectors`."""
    between = {
        (source, goal): translation_ndcg(vectors[source], vectors[goal])
        for source in vectors
        for goal in vectors
        if source != goal
    }
    return {
        language: Scores(
            np.mean([between[language, other] for other in vectors if other != language], axis=0),
            np.mean([between[other, language] for other in vectors if other != language], axis=0),
            topic_ndcg(vectors[language], topics),
        )
        for language in vectors
    }


def translation_ndcg(queries: Vectors, documents: Vectors) -> Floats:
    """nDCG@10 where the one relevant document of query n is document n; a tie ranks after its equals."""
    similar = queries @ documents.T
    own = np.diagonal(similar)[:, None]
    rank = (similar >= own).sum(axis=1)  # itself counts, so the best is 1
    return np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)


def topic_ndcg(vectors: Vectors, topics: Any) -> Floats:
    """nDCG@10 where the relevant documents are the other sentences of the query's topic."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    nearest = np.argsort(-similar, axis=1, kind="stable")[:, :10]
    gains = 1 / np.log2(np.arange(2, 12))
    relevant = topics[nearest] == topics[:, None]
    counts = np.array([(topics == topic).sum() - 1 for topic in topics])
    ideal = np.array([gains[: min(10, count)].sum() for count in counts])
    return np.asarray((relevant * gains).sum(axis=1) / ideal)


def compare(base: Scores, mine: Scores) -> dict[str, Any]:
    """Means, and the share of the reference's that is kept with its 95% interval, the sentences resampled."""
    kept, low, high = ratio_interval(base.all, mine.all)
    return {
        "sentences": len(base.all),
        "reference_ndcg_at_10": _means(base),
        "ndcg_at_10": _means(mine),
        "kept": round(kept, 5),
        "kept_95": [round(low, 5), round(high, 5)],
    }


def ratio_interval(base: Floats, mine: Floats) -> tuple[float, float, float]:
    """mean(mine) / mean(base) and its paired 95% interval (bootstrap, percentiles, fixed seed)."""
    rng = np.random.default_rng(_SEED)
    rows = rng.integers(0, len(base), (_RESAMPLES, len(base)))
    low, high = np.percentile(mine[rows].mean(axis=1) / base[rows].mean(axis=1), (2.5, 97.5))
    return float(mine.mean() / base.mean()), float(low), float(high)


def cosines(reference: Vectors, own: Vectors) -> dict[str, float]:
    from ringkas.runtimes.parity.judge import centred_cosine, cosine

    plain, centred = cosine(reference, own), centred_cosine(reference, own)
    return {
        "cosine_min": round(float(plain.min()), 5),
        "cosine_mean": round(float(plain.mean()), 5),
        "centred_min": round(float(centred.min()), 5),
        "centred_mean": round(float(centred.mean()), 5),
    }


def retrieval_table(found: dict[str, Any]) -> str:
    counts = {row["sentences"] for one in found.values() for row in one["by_language"].values()}
    count = ", ".join(f"{one:,}" for one in counts)
    text = (
        f"nDCG@10 over {count} sentences a language: the mean of a sentence finding its translation in each\n"
        "other language (to), of its translations finding it (from), and of it finding the sentences of its\n"
        "topic. Centred: after subtracting the reference's mean vector of the language.\n"
    )
    for name, one in found.items():
        text += f"\n**{name}**" + (f" ({one['note']})" if one["note"] else "") + "\n\n"
        text += "| | reference: to, from, topic | artifact: to, from, topic | kept (95%) | cosine min | "
        text += "centred min, mean |\n"
        text += "|---|---|---|---|---:|---|\n"
        for language, row in one["by_language"].items():
            before, after = (
                ", ".join(f"{value:.4f}" for value in row[key].values())
                for key in ("reference_ndcg_at_10", "ndcg_at_10")
            )
            low, high = row["kept_95"]
            text += (
                f"| {language} | {before} | {after} | {row['kept']:.2%} ({low:.2%} to {high:.2%}) | "
                f"{row['cosine_min']:.4f} | {row['centred_min']:.4f}, {row['centred_mean']:.4f} |\n"
            )
    return text


# Loading and speed


def load(options: Any) -> tuple[Any, str]:
    """From a process with nothing imported to the first vector: seconds and memory, the best of three."""
    from load_and_size import child

    found: dict[str, Any] = {}
    for name, path in artifacts(options, TIMED).items():
        runs = [child("facade", path) for _ in range(3)]
        found[name] = {key: min(run[key] for run in runs) for key in runs[0]}
    lines = ["| artifact | seconds to the first vector | peak memory, MB |", "|---|---:|---:|"]
    lines += [
        f"| {_marked(name)} | {one['seconds']:.2f} | {one['peak_mb']:.0f} |" for name, one in found.items()
    ]
    return found, "\n".join(lines) + "\n"


def speed(options: Any) -> tuple[Any, str]:
    """`ringkas bench` beside PyTorch, on the built-in texts of three languages."""
    from ringkas.progress import Progress
    from ringkas.runtimes.measure.bench import Lineup, bench
    from ringkas.runtimes.measure.report import to_markdown
    from ringkas.runtimes.measure.rounds import Procedure

    paths = artifacts(options, TIMED)
    found, text = {}, ""
    for language in TIMED_LANGUAGES:
        spoken = tuple(
            path for name, path in paths.items() if name.startswith("full/") or language in ("ko", "en")
        )
        result = bench(
            Lineup(spoken, MODEL, language=language), Procedure(rounds=options.rounds, threads=2), Progress()
        )
        found[language] = msgspec.to_builtins(result)
        text += f"## {language}\n\n{to_markdown(result)}\n"
    return found, text


PARTS: dict[str, Callable[[Any], tuple[Any, str]]] = {
    "build": build,
    "parity": parity,
    "retrieval": retrieval,
    "load": load,
    "speed": speed,
}


def _means(scores: Scores) -> dict[str, float]:
    return {
        "to_translation": round(float(scores.outward.mean()), 5),
        "from_translation": round(float(scores.inward.mean()), 5),
        "topic": round(float(scores.topic.mean()), 5),
    }


@cache
def _model_hash(path: Path) -> str:
    manifest = json.loads((path / "ringkas.json").read_text("utf-8"))
    found: str = manifest["files"][manifest["model_file"]]["sha256"]
    return found


def _is_four_bit(name: str) -> bool:
    return "int4" in name or "q4" in name or "iq4" in name


def _marked(name: str) -> str:
    return f"{name} \\*" if _is_four_bit(name) else name


if __name__ == "__main__":
    main()
